"""An output that stands: a run that is given the same would only make it again."""

from __future__ import annotations

from pipeline.outputs.manifest import Manifest, NotAnOutput, has_manifest, read_manifest
from pipeline.outputs.staging import list_output
from transforms.extract.attempt import LACKING
from transforms.ledger import Line, read_ledger, read_partial_evidence
from transforms.storage.files import join, read_bytes


def standing(output: str, given: str) -> tuple[Manifest, list[Line]] | None:
    """The finished output of an earlier run that was ``given`` the same, and left nothing to be tried again.

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
    if any(line.failed or line.deferred for line in lines) or lacking & LACKING:
        return None
    return manifest, lines
