"""What libraries say of their internals, kept from people."""

from __future__ import annotations

import logging
import warnings


def hush() -> None:
    """Leave out what Beam says while it is imported, and what its S3 client also raises, with a trace."""
    logging.getLogger().addFilter(_is_ours)


def hush_warnings() -> None:
    """Leave out warnings of libraries; for the command line alone, whose process nobody else writes to."""
    warnings.simplefilter("ignore")


def _is_ours(record: logging.LogRecord) -> bool:
    return record.module != "s3io" and "apitools not found" not in record.getMessage()
