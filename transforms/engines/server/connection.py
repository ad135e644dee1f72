"""One call to one OpenAI-compatible server: the body of its reply, or what was wrong."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Mapping
from functools import cache
from typing import TYPE_CHECKING

from transforms.engines.server.faults import Fault, FaultReader

if TYPE_CHECKING:
    import ssl

    import httpx2

_IDLE_S = 4.0  # an idle connection is closed before the server does so, commonly after 5 s, while we send


class Connection:
    """Calls one server, as many at once as it has ``places``; belongs to the event loop that it is made in.

    Replies are as the server sent them, and may quote the key; faults are cleaned of it.
    """

    def __init__(self, url: str, places: int, key: str, faults: FaultReader) -> None:
        import httpx2
        from openai import AsyncOpenAI, DefaultAioHttpClient

        limits = httpx2.Limits(max_connections=places + 1, keepalive_expiry=_IDLE_S)
        # The library's own retries miss replies that are cut or not JSON, and would keep their place while they wait.
        self._client = AsyncOpenAI(
            api_key=key,
            base_url=url,
            timeout=None,
            max_retries=0,
            http_client=DefaultAioHttpClient(limits=limits, timeout=None, verify=trusted()),
        )
        self.faults = faults
        self._root = url.rstrip("/").removesuffix("/v1")
        self.close = self._client.close

    async def get(self, path: str, limit_s: float) -> bytes | Fault:
        """What is at ``path``, under the server's address unless it is an address itself."""
        import httpx2

        return await self._reply(self._client.get(path, cast_to=httpx2.Response), limit_s)

    async def post(self, path: str, body: Mapping[str, object], limit_s: float, at_root: bool = False) -> bytes | Fault:
        """The whole reply to ``body``, which takes at most ``limit_s``.

        vLLM and SGLang have endpoints of their own ``at_root``, beside the OpenAI-compatible ones under /v1.
        """
        import httpx2

        address = self._root + path if at_root else path
        return await self._reply(self._client.post(address, cast_to=httpx2.Response, body=body), limit_s)

    async def _reply(self, call: Awaitable[httpx2.Response], limit_s: float) -> bytes | Fault:
        from openai import APIConnectionError, APIStatusError

        try:
            async with asyncio.timeout(limit_s):  # the library's own starts anew with every byte
                return (await call).content
        except APIConnectionError as error:
            return Fault(f"{error.message} ({self.faults.line(error.__cause__ or 'no reply')})", reached=False)
        except TimeoutError:
            return Fault(f"no whole reply within {limit_s:g} s", reached=False)
        except APIStatusError as error:
            return self.faults.fault(error.status_code, _content(error.response), error.response.headers)


def trusted() -> ssl.SSLContext:
    """The authorities that servers are trusted by, as the client library finds them.

    They are read once, not for every connection: that takes 50 ms, where a question takes a few.
    """
    return _trusted(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@cache
def _trusted(_file: str | None, _folder: str | None) -> ssl.SSLContext:
    import httpx2

    return httpx2.create_ssl_context()


def _content(response: httpx2.Response) -> object:
    try:
        return response.json()
    except ValueError:
        return response.text
