import os

import pytest

from transforms.storage.address import local_path, writable


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("file:///a/b%20c.mp4", "/a/b c.mp4"),
        ("file://localhost/a/b.mp4", "/a/b.mp4"),
        ("FILE:/a/ü%C3%BC.mp4", "/a/üü.mp4"),
        ("file:///a/%FF.mp4", "/a/\udcff.mp4"),
    ],
)
def test_a_file_url_of_this_machine_is_a_path(address: str, path: str):
    assert local_path(address) == path


@pytest.mark.parametrize("address", ["/a/b%20c.mp4", "a:b", "s3://b/k", "file://elsewhere/a", "files:///a", "file:a"])
def test_any_other_address_stays_as_it_is(address: str):
    assert local_path(address) == address


def test_a_path_that_is_no_utf8_is_written_as_a_url_that_leads_back():
    path = "/a b/\udcff%20ü.mp4"

    assert writable(path) == "file:///a%20b/%FF%2520%C3%BC.mp4"
    assert local_path(writable(path)) == path
    assert writable("/a b/ü.mp4") == "/a b/ü.mp4"
    assert writable("\udcff") == f"file://{os.getcwd()}/%FF"
