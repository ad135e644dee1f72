"""What a child process may take from its machine: it is the first to go when memory runs out, and never takes all."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

MEMORY_SHARE = 0.8
"""Of the memory of the machine, or of the container: the rest is for whatever else runs there."""

_CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # cgroups 2 and 1


def limit_this_process(share: float = MEMORY_SHARE) -> None:
    """Bound this process's memory, have the kernel kill it before any other, and let a crash leave no core file.

    The bound is on data (RLIMIT_DATA), not on address space, of which torch reserves six times what it uses; beyond it
    an allocation fails, where the kernel would otherwise kill some process or, in a container, all. Linux only.
    """
    if not sys.platform.startswith("linux"):
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit = int(share * memory_bytes())
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    with suppress(OSError):  # some sandboxes mount /proc read-only
        Path("/proc/self/oom_score_adj").write_text("1000")


def memory_bytes() -> int:
    """The memory of this machine, or of the container where that is less."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in _CONTAINER_LIMITS:
        with suppress(OSError, ValueError):  # absent outside of a container; "max" in one without a limit
            found.append(int(Path(path).read_text()))
    return min(found)
