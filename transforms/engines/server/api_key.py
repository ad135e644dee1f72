"""The key of a server: where it is read, how it is kept out of all that is written, and what only looks like one."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from transforms.protocols.engine import EngineError
from transforms.protocols.teacher import TeacherReply
from transforms.storage.address import is_remote
from transforms.storage.files import read_bytes

HIDDEN = "***"
_SHORTEST = 8  # characters; the "none" or "EMPTY" that a local server is given is no secret
_PIECE = 12  # characters of a key in a row give it away; a server may have cut it, or we what the server said
_SECRET = re.compile(r"projects/[^/]+/secrets/[^/]+/versions/[^/]+")
# Not max_tokens, stop_token_ids, skip_special_tokens or eos_token, which servers take.
_CREDENTIAL = re.compile(
    r"(?:.*[_-])?(?:api[_-]?key|authori[sz]ation|pass(?:word|wd|phrase)|secret|credentials?|bearer|cookie)"
    r"|(?:.*[_-])?(?:access|api|auth|bearer|hf|id|refresh|session)[_-]?token|token|(?:.*[_-])?(?:access|secret)[_-]key",
    re.IGNORECASE,
)


def read_key(variable: str, file: str) -> str:
    """The key in ``file``, or where that is blank in the environment variable; "" where the variable is not set.

    The file may lie in an object store, or be a secret of Google's Secret Manager.

    Raises:
        EngineError: the file cannot be read, or either holds anything but a key.
    """
    if file:
        source = f"api_key_file {file!r}"
        key = _read(file, source).decode("utf-8-sig", errors="replace").strip()
    else:
        source = f"the environment variable {variable}"
        key = os.environ.get(variable, "").strip()
        if not key:
            return ""
    if not re.fullmatch(r"[!-~]+", key):  # it could not be sent, and the error would quote it
        raise EngineError(f"{source} must hold the key and nothing else")
    return key


def _read(file: str, source: str) -> bytes:
    try:
        if _SECRET.fullmatch(file):
            return _read_secret(file)
        return read_bytes(file) if is_remote(file) else Path(file).read_bytes()
    except FileNotFoundError as error:
        raise EngineError(f"{source}: No such file or directory") from error
    except OSError as error:
        raise EngineError(f"{source}: {error.strerror or error}") from error


def _read_secret(name: str) -> bytes:
    try:
        from google.api_core.exceptions import GoogleAPICallError
        from google.auth.exceptions import GoogleAuthError
        from google.cloud.secretmanager import SecretManagerServiceClient
    except ModuleNotFoundError as error:
        raise EngineError(f"secrets need a package: {error}; pip install 'hardquery[dataflow]'") from error
    try:
        data: bytes = SecretManagerServiceClient().access_secret_version(name=name).payload.data
    except (GoogleAPICallError, GoogleAuthError) as error:
        raise EngineError(f"the secret {name} cannot be read: {error}") from error
    return data


def names_a_file(path: str) -> bool:
    """Whether ``path`` is beyond doubt no key: it is there, or starts as paths do and keys do not, or is a secret's."""
    here = path.startswith(("/", "./", "../")) or Path(path).is_file()
    return here or is_remote(path) or _SECRET.fullmatch(path) is not None


def refuse_secrets(options: Mapping[str, object], key: str) -> None:
    """Refuse options that hold ``key``, or an entry that only a secret would be given: they are all written down.

    Raises:
        ValueError: one line that names the option, and not what it holds.
    """
    keeper = KeyKeeper(key)
    for name, value in options.items():
        secret = credential_in(value)
        if secret is not None or keeper.hide(str(value)) != str(value):
            held = "the key" if secret is None else repr(secret)
            raise ValueError(f"{name} holds {held}, and would be stored; only api_key_env or api_key_file name a key")


def credential_in(options: object) -> str | None:
    """The name of the first entry, at any depth of mappings and lists, that only a secret would be given."""
    if isinstance(options, Mapping):
        for name, value in options.items():
            found = str(name) if _CREDENTIAL.fullmatch(str(name)) else credential_in(value)
            if found is not None:
                return found
    elif isinstance(options, list | tuple):
        return next((found for found in map(credential_in, options) if found is not None), None)
    return None


class KeyKeeper:
    """Finds a key in text from outside, and hides it: whole or in pieces, plain, percent-encoded or in base64."""

    def __init__(self, key: str) -> None:
        self._size = min(_PIECE, len(key))
        self._pieces = frozenset(_pieces(key, self._size)) if len(key) >= _SHORTEST else frozenset()

    def hide(self, text: str) -> str:
        """``text`` with ``***`` in place of every stretch that gives the key away."""
        starts = [at for at in range(len(text) - self._size + 1) if text[at : at + self._size] in self._pieces]
        shown: list[str] = []
        end = 0
        for start in starts:
            if start > end or not shown:
                shown.extend((text[end:start], HIDDEN))
            end = start + self._size
        return "".join((*shown, text[end:]))

    def clean(self, reply: TeacherReply) -> TeacherReply:
        """The reply with the key hidden; its tokens are dropped where they spell the key."""
        spelled = b"".join(token.text for token in reply.tokens)
        others = b"\n".join(text for token in reply.tokens for text, _ in token.alternatives)
        told = any(self._tells(data.decode("utf-8", "replace")) for data in (spelled, others))
        return replace(reply, text=self.hide(reply.text), tokens=() if told else reply.tokens)

    def _tells(self, text: str) -> bool:
        return self.hide(text) != text


def _pieces(key: str, size: int) -> Iterator[str]:
    for form in _forms(key):
        yield from (form[start : start + size] for start in range(len(form) - size + 1))


def _forms(key: str) -> Iterator[str]:
    """How a key may be spelled; base64 has three spellings of it, by where in the encoded bytes it starts."""
    yield from {key, quote(key, safe="")}
    for before in range(3):
        padded = b"\0" * before + key.encode()
        whole = padded[: len(padded) // 3 * 3]  # what encodes without bits of whatever follows
        encoded = base64.b64encode(whole).decode()[4 if before else 0 :]
        yield from {encoded, encoded.translate(str.maketrans("+/", "-_"))}
