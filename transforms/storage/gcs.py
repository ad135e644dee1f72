"""Google's object store, asked once whether it answers: Beam's filesystem would try for minutes, in silence."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions

PATIENCE_S = 10.0
EMULATOR = "STORAGE_EMULATOR_HOST"  # the address of a store that asks for no credentials, as Google's client has it


def why_unreachable(bucket: str, options: PipelineOptions, patience_s: float = PATIENCE_S) -> str | None:
    """Ask for credentials and for a bucket, once: what is wrong and how to mend it, or None."""
    google = options.view_as(GoogleCloudOptions)
    anonymous = bool(google.no_auth or os.environ.get(EMULATOR))
    return within(patience_s, lambda: _why(bucket, google.project, anonymous))


def within(patience_s: float, ask: Callable[[], str | None]) -> str | None:
    """What ``ask`` returns, or that it took too long: Google's libraries try again for minutes."""
    answers: list[str | None] = []

    def work() -> None:
        try:
            answers.append(ask())
        except Exception as error:  # noqa: BLE001 - each of Google's libraries has its own errors
            answers.append(f"{type(error).__name__}: {error}")

    thread = threading.Thread(target=work, name="google", daemon=True)
    thread.start()
    thread.join(patience_s)
    return answers[0] if answers else f"Google did not answer within {patience_s:.0f} s; is there a network?"


def _why(bucket: str, project: str | None, anonymous: bool) -> str | None:
    from google.api_core.exceptions import Forbidden
    from google.auth.credentials import AnonymousCredentials
    from google.auth.exceptions import DefaultCredentialsError
    from google.cloud import storage

    try:
        credentials = AnonymousCredentials() if anonymous else None
        client = storage.Client(project=project or "none", credentials=credentials)
        if not client.bucket(bucket).exists(timeout=PATIENCE_S, retry=None):
            return f"the bucket does not exist; create it: gcloud storage buckets create gs://{bucket}"
    except DefaultCredentialsError:
        return "there are no credentials; gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS"
    except Forbidden:
        return None  # single objects may still be readable
    return None
