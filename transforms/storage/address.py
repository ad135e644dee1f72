"""Addresses of files: what of them names a file of this machine."""

from __future__ import annotations

import os
import re
from urllib.parse import quote_from_bytes, unquote_to_bytes

_REMOTE = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
_FILE_URL = re.compile(r"file:(?://(?:localhost)?(?=/)|(?=/(?!/)))", re.IGNORECASE)


def local_path(address: str) -> str:
    """The path that a file:// URL of this machine names (RFC 8089); any other address as it is."""
    found = _FILE_URL.match(address)
    return os.fsdecode(unquote_to_bytes(address[found.end() :].encode())) if found else address


def is_remote(address: str) -> bool:
    """Whether an address is of another filesystem than this machine's own."""
    return _REMOTE.match(local_path(address)) is not None


def writable(path: str) -> str:
    """``path`` itself, or, where its bytes are no UTF-8 and no text can hold them, as a file:// URL."""
    try:
        path.encode()
        return path
    except UnicodeEncodeError:
        return f"file://{quote_from_bytes(os.fsencode(os.path.abspath(path)))}"


def absolute(address: str) -> str:
    """The address as it is understood in every folder, and however it was typed; "" and those of a store as they are.

    Folders behind links keep the names that they are reached by, unless a ".." leads back out of one.
    """
    if not address or "://" in address:
        return address
    plain = os.path.abspath(address)
    if os.pardir in address.split(os.sep) and os.path.realpath(address) != os.path.realpath(plain):
        return os.path.realpath(address)
    return plain
