"""Files that no decoding is recorded of: what can be known of them beforehand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from schemas.query import WITH_PARTS, Variant
from schemas.video import ManifestEntry
from transforms.extract.headers import Headers, probe
from transforms.storage.address import is_remote, local_path


@dataclass(frozen=True)
class Unseen:
    """Files that no decoding is recorded of: what their headers say, by address, None where there is no reading them.

    ``remote`` ones are not fetched.
    """

    headers: Mapping[str, Headers | None]
    remote: frozenset[str]

    @property
    def unreadable(self) -> list[str]:
        """Those whose headers there is no reading."""
        return [uri for uri, headers in self.headers.items() if headers is None]

    def having(self, uris: Iterable[str], stream: str) -> int:
        """How many of the files may have such a stream."""
        return sum(uri in self.remote or bool(getattr(self.headers[uri], stream, False)) for uri in uris)

    def evidence(self, uris: Iterable[str], variants: Sequence[Variant], entries: Iterable[ManifestEntry]) -> int:
        """The most prompts of these variants that files can have evidence for, by their headers and their metadata."""
        titled = {entry.uri for entry in entries if entry.metadata.text}
        most = 0
        for uri in uris:
            if not self.having([uri], "has_video"):
                continue
            there = {"caption", "ocr", "all", *WITH_PARTS}
            there |= {"asr"} if self.having([uri], "has_audio") else set()
            there |= {"metadata"} if uri in titled else set()
            most += len(there.intersection(variants))
        return most


def look_into(uris: Sequence[str], workers: int) -> Unseen:
    """The headers of files, read by ``workers`` at a time."""
    local = [uri for uri in uris if not is_remote(uri)]
    with ThreadPoolExecutor(workers) as pool:
        headers = dict(zip(local, pool.map(lambda uri: probe(local_path(uri), workers), local), strict=True))
    return Unseen(headers, frozenset(uris).difference(local))
