"""Options of every engine behind an OpenAI-compatible server: which model is asked, where, and how."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from schemas.check import require, require_text
from schemas.fingerprint import fingerprint
from schemas.video import EngineStamp
from transforms.engines.server.api_key import HIDDEN, names_a_file, read_key, refuse_secrets
from transforms.engines.server.endpoints import Endpoint
from transforms.protocols.engine import EngineError, version_of

# Options that decide how the server is reached, and not what it answers.
_TRANSPORT = ("base_url", "api_key_env", "api_key_file", "timeout_s", "attempts", "in_flight")

CONTINUE: Mapping[str, Any] = {"continue_final_message": True, "add_generation_prompt": False}
"""How vLLM and SGLang are told to go on from the last message; llama.cpp does so whenever it is the assistant's."""


@dataclass(frozen=True, kw_only=True)
class ServedOptions:
    """Which model to ask, where, and how.

    ``base_url`` is the address of the server, or a list of several that serve the same model, each an address or
    ``{url: …, weight: …}``: a call goes where the fewest are under way for the weight, and where a server falls silent
    to the others. The key is read from the environment variable ``api_key_env``, or from ``api_key_file``; a server on
    this machine needs none. Options are written to the manifest: one that holds a key is refused, and never printed.
    ``timeout_s`` bounds one call, from connecting to the last byte, ``attempts`` the calls of one request; the first of
    several is not waited for much longer than calls of its kind take.
    ``in_flight`` bounds the calls that are under way at once in one process, to all servers together: they are busiest
    at 1.25 times as many as they work on at once. ``extra_body`` is merged into every request, for what a server offers
    beyond the common surface, such as ``{chat_template_kwargs: {enable_thinking: false}}``.
    """

    requires: ClassVar[tuple[str, ...]] = ("openai", "aiohttp")
    extra: ClassVar[str] = "teacher"

    model: str
    revision: str = ""
    base_url: str | tuple[str | Endpoint, ...] = "https://api.openai.com/v1"
    api_key_env: str = "OPENAI_API_KEY"
    api_key_file: str = ""
    timeout_s: float = 120.0
    attempts: int = 6
    in_flight: int = 64
    extra_body: dict[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        # Many keys are identifiers too (hf_…), but hardly one is all capitals.
        named = re.fullmatch(r"[A-Z_][A-Z0-9_]*", self.api_key_env) is not None
        require(named, "api_key_env must be the name of an environment variable, in capitals, and not a key", HIDDEN)
        is_path = not self.api_key_file or names_a_file(self.api_key_file)
        require(is_path, "api_key_file must be the path of a file, such as ./key, and not a key", HIDDEN)
        for endpoint in self.endpoints:
            require_address(endpoint.url)
        urls = [endpoint.url.rstrip("/") for endpoint in self.endpoints]
        require(0 < len(urls) == len(set(urls)), "base_url must hold at least one address, and each once", len(urls))
        at_hand = not self.api_key_file or Path(self.api_key_file).is_file()  # it may lie on the workers only
        key = read_key(self.api_key_env, self.api_key_file) if at_hand else ""
        refuse_secrets({option.name: getattr(self, option.name) for option in fields(self)}, key)
        require_text("model", self.model)
        require(self.timeout_s > 0, "timeout_s must be positive", self.timeout_s)
        require(self.attempts >= 1, "attempts must be at least 1", self.attempts)
        require(self.in_flight >= 1, "in_flight must be at least 1", self.in_flight)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The servers that ``base_url`` names."""
        given = (self.base_url,) if isinstance(self.base_url, str) else self.base_url
        return tuple(each if isinstance(each, Endpoint) else Endpoint(each) for each in given)

    @property
    def at_once(self) -> int:
        """See ``Waits``; a quarter more than may be in flight, for requests that wait to be tried again."""
        return self.in_flight + self.in_flight // 4

    def stamp_as(self, name: str, apart_from: Collection[str] = ()) -> EngineStamp:
        """The stamp of an engine with these options.

        Its fingerprint leaves out how the server is reached and the client's version, which change no answer, and the
        options ``apart_from``.
        """
        left_out = {*_TRANSPORT, *apart_from}
        decisive = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in left_out}
        return EngineStamp(name, version_of("openai"), self.model, fingerprint([name, decisive]))

    def key(self) -> str:
        """The key, read anew; it is kept nowhere but in the client. Raises ``EngineError`` where there is none."""
        key = read_key(self.api_key_env, self.api_key_file)
        far = [endpoint.url for endpoint in self.endpoints if not is_loopback(endpoint.url)]
        if not key and far:
            raise EngineError(
                f"no key for {urlsplit(far[0]).hostname}: set the environment variable {self.api_key_env} (to "
                "anything, if the server asks for none), or the option api_key_file"
            )
        return key or "none"


@dataclass(frozen=True, kw_only=True)
class ChatOptions(ServedOptions):
    """Of chat completions besides: ``temperature`` and ``max_tokens`` are not sent where null."""

    temperature: float | None = 0.0
    max_tokens: int | None = 4096

    def request(self, messages: Sequence[Mapping[str, object]], **parameters: object) -> dict[str, Any]:
        """The body of a chat completions call with these messages and parameters."""
        common = {"model": self.model, "temperature": self.temperature, "max_tokens": self.max_tokens}
        given = {name: value for name, value in {**common, **parameters}.items() if value is not None}
        return {"messages": list(messages), **given, **self.extra_body}


def require_address(url: str) -> None:
    """Refuse what is no address of a server, or holds what is not to be printed; the error does not show it.

    Raises:
        InvalidRecord: one line that says what is wrong.
    """
    public = not set(url) & set("@?#")
    require(public, "base_url must hold no credentials, query or fragment, for they would be printed", HIDDEN)
    require(_is_address(url), "base_url must be an http(s) address such as http://localhost:8000/v1", HIDDEN)


def _is_address(url: str) -> bool:
    try:
        address = urlsplit(url)
        return address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
    except ValueError:  # which quotes the port
        return False


def is_loopback(url: str) -> bool:
    """Whether the host of ``url`` is this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
