"""Servers of these tests are on loopback, whatever the environment says of keys and proxies."""

import pytest


@pytest.fixture(autouse=True)
def _no_key_and_no_proxy(monkeypatch):
    for name in ("OPENAI_API_KEY", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
