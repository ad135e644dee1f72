"""Processes that begin with modules imported: forks of a server that has imported them, one server a list of modules.

``multiprocessing`` has one server a process, with what is asked for first: who asks for other modules then imports them
in each child, which for the trainer takes longer than what the child does.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from functools import cache
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from unittest.mock import patch


def start(modules: Sequence[str], function: Callable[..., object], *args: object) -> BaseProcess:
    """A process that calls ``function(*args)``, with these modules imported."""
    return start_in(_server(tuple(modules)), function, *args)


def start_in(server: forkserver.ForkServer, function: Callable[..., object], *args: object) -> BaseProcess:
    """A process that calls ``function(*args)``, forked from this server's."""
    process = multiprocessing.get_context("forkserver").Process(target=function, args=args)
    with patch.object(forkserver, "connect_to_new_process", server.connect_to_new_process):
        process.start()
    return process


@cache
def _server(modules: tuple[str, ...]) -> forkserver.ForkServer:
    server = forkserver.ForkServer()
    server.set_forkserver_preload(list(modules))
    return server
