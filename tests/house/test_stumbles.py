"""The stumbles of new users: what is taken for a good reply is one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.stumbles import ROOT, STUMBLES, Stumble, try_again, variants, verdict
from tests.support.tiny_output import write_tiny


def test_no_echo_of_what_was_typed_is_taken_for_a_good_reply() -> None:
    typed = [stumble for stumble in STUMBLES if isinstance(stumble.typed, tuple) and stumble.typed]
    echoes = {
        stumble.number: [f"hardquery: {said}\nexit code 2\n" for said in (" ".join(stumble.typed), *stumble.typed)]
        for stumble in typed
        if stumble.number != 36  # of which only the width is asked
    }

    assert len(echoes) > 15
    for stumble in typed:
        assert not any(re.search(stumble.says, echo) for echo in echoes.get(stumble.number, ())), stumble.missed


def test_what_only_a_test_holds_is_said_to_be_held_by_it_and_the_test_is_there(tmp_path: Path) -> None:
    held = [stumble for stumble in STUMBLES if not stumble.typed]
    gone = Stumble(99, "nothing", held_by="tests/run/test_no_such.py")

    for stumble in held:
        *_, good = try_again(stumble, tmp_path)
        assert (good, verdict(stumble, good)) == (True, f"held by {stumble.held_by}")
    *_, good = try_again(gone, tmp_path)
    assert (good, verdict(gone, good)) == (False, "NO SUCH TEST: tests/run/test_no_such.py")
    assert all((ROOT / name).is_file() for stumble in STUMBLES for name in filter(None, stumble.held_by.split(", ")))


@pytest.mark.parametrize(("share", "good"), [(True, True), (False, False)])
def test_variants_that_share_no_files_are_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: bool, good: bool
) -> None:
    write_tiny(tmp_path / "out")
    (stumble,) = (each for each in STUMBLES if each.typed is variants)
    if not share:
        monkeypatch.setattr("transforms.storage.shared_files.share_files", lambda *_: None)

    tried, said, found = try_again(stumble, tmp_path)

    assert found is good, (tried, said)
