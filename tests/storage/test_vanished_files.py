"""Files of a store that others remove: between the question whether they are there and the answer of what they hold."""

import pytest

from tests.support.object_store import ObjectStore
from transforms.storage.files import digest, read_bytes, size

FILE = "objects://bucket/cache/file"


@pytest.fixture
def store(monkeypatch):
    monkeypatch.setattr(ObjectStore, "objects", {FILE: b"what it holds"})
    return ObjectStore.objects


@pytest.fixture
def vanishing(store, monkeypatch):
    """The store, whose file goes as soon as it was said to be there."""

    def exists(_self, path):
        return store.pop(path, None) is not None

    monkeypatch.setattr(ObjectStore, "exists", exists)


def test_a_file_that_goes_after_it_was_found_is_not_there(vanishing):
    with pytest.raises(FileNotFoundError, match="cache/file"):
        read_bytes(FILE)


def test_nor_has_it_a_digest(vanishing):
    with pytest.raises(FileNotFoundError, match="cache/file"):
        digest(FILE)


def test_nor_a_size(vanishing):
    assert size(FILE) is None


def test_what_a_store_says_of_a_file_that_is_there_is_told(store, monkeypatch):
    def out_of_order(_self, path, mime_type="", compression_type=""):
        raise PermissionError(path)

    monkeypatch.setattr(ObjectStore, "open", out_of_order)
    with pytest.raises(PermissionError, match="cache/file"):
        read_bytes(FILE)
    assert size(FILE) == len(b"what it holds")
