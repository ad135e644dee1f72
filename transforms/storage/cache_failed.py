"""What is raised where a file of the cache cannot be read or written; child processes raise it without Beam."""

from __future__ import annotations


class CacheFailed(RuntimeError):
    """A file of the cache cannot be read or written: no input is to blame, and no other will fare better."""
