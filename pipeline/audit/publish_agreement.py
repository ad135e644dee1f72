"""Putting what people made of the judge into an output: its manifest, card and report, and nothing else of it."""

from __future__ import annotations

from dataclasses import replace

from pipeline.outputs.errors import OutputError
from pipeline.outputs.lock import hold
from pipeline.outputs.manifest import read_manifest
from pipeline.outputs.publish import publish, settle
from pipeline.outputs.report.complete import tell
from pipeline.outputs.staging import JOB, clear_staging, staging_of
from schemas.people.agreement import Agreement
from transforms.storage.files import exists, join


def publish_agreement(output: str, found: Agreement) -> None:
    """Publish the output anew with these figures in the place of earlier ones; killed at any moment, it is whole.

    Raises:
        OutputError: a run holds the output, or it cannot be written to.
        NotAnOutput: there is none.
    """
    with hold(output) as confirm:
        settle(output)
        if exists(join(output, JOB)):
            raise OutputError(f"{output} waits for a job: hardquery finish {output}")
        clear_staging(output)
        tell(output, staging_of(output), replace(read_manifest(output), agreement=found))
        confirm()
        publish(output)
