"""The page of an output served on this machine, and what it answers."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.client import HTTPConnection
from urllib.parse import urlencode, urlsplit

import msgspec

from pipeline.outputs.view.server import ViewServer


@contextmanager
def served(desk):
    with ViewServer(desk) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server, path, method="GET", body=None, headers=(), **asked):
    """Status, headers and body of what the server answers below its secret address."""
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    address = urlsplit(server.url).path + path + (f"?{urlencode(asked)}" if asked else "")
    connection.request(method, address, body, dict(headers))
    reply = connection.getresponse()
    found = reply.status, reply.headers, reply.read()
    connection.close()
    return found


def told(server, path, **asked):
    status, _, body = ask(server, path, **asked)
    assert status == 200, body
    return msgspec.json.decode(body)


def ids(listed):
    return [row["query_id"] for row in listed["rows"]]
