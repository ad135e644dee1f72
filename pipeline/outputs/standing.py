"""An output that stands: a run that is given the same would only make it again."""

from __future__ import annotations

from pipeline.outputs.manifest import Manifest, NotAnOutput, has_manifest, read_manifest
from pipeline.outputs.staging import list_output
from transforms.extract.attempt import LACKING
from transforms.journal.open_journal import Retry
from transforms.ledger import Line, read_ledger, read_partial_evidence
from transforms.media.container import MediaError
from transforms.storage.files import join, read_bytes

# Failures that stay as long as a file's bytes do.
_SETTLED = frozenset(kind.__name__ for kind in MediaError.__subclasses__())


def standing(output: str, given: str, retry: Retry = "transient") -> tuple[Manifest, list[Line]] | None:
    """The finished output of an earlier run that was ``given`` the same, and left nothing that is to be tried again.

    Files that cannot be used are tried again where ``retry`` says all, other failures always.

    None where there is none, or a file of it is gone or has another size.
    """
    if not given or not has_manifest(output):
        return None
    try:
        manifest = read_manifest(output)
    except NotAnOutput:
        return None
    if manifest.given != given:
        return None
    sizes = list_output(output)
    if any(sizes.get(file.path) != file.size_bytes for file in manifest.files):
        return None
    ledger = read_bytes(join(output, "ledger.json"))
    lines = read_ledger(ledger)
    lacking = {reason for reasons in read_partial_evidence(ledger).values() for reason in reasons}
    settled = _SETTLED if retry != "all" else frozenset()
    if any(line.failed.keys() - settled or line.deferred for line in lines) or lacking & LACKING:
        return None
    return manifest, lines
