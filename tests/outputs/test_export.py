import hashlib
import json
import random

import ir_measures
import jsonlines
import pytest

from pipeline.outputs.errors import UnreadableOutput, UnwritableExport
from pipeline.outputs.export.formats import EXPORTS
from pipeline.outputs.export.rankvideo import export_rankvideo
from pipeline.outputs.manifest import NotAnOutput
from tests.support.tiny_output import tiny_rows, write_rows, write_tiny
from trainer.data.examples import read_queries
from trainer.data.plan import plan_queries
from trainer.data.shards import Shards

ROW = (
    "query_id query doc_id videos true_label teacher_label teacher_p_yes teacher_logit_delta teacher_reasoning "
    "evidence meta"
).split()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    write_tiny(folder / "out")
    return folder / "to", export_rankvideo(str(folder / "out"), str(folder / "to"))


def lines(path):
    with jsonlines.open(path) as reader:
        return list(reader)


def test_exports_are_found_by_name():
    assert EXPORTS["rankvideo"] is export_rankvideo


def test_what_was_written_is_returned(exported):
    folder, written = exported

    assert sorted(written) == sorted(str(path) for path in folder.iterdir())


def test_a_row_has_the_keys_of_the_release_in_their_order(exported):
    rows = lines(exported[0] / "train.jsonl")

    assert all(list(row) == ROW for row in rows)
    assert all(list(row["evidence"]) == ["caption", "asr"] and list(row["meta"]) == ["rank", "score"] for row in rows)
    assert all(isinstance(row["videos"], list) and row["true_label"] in (0, 1) for row in rows)


def test_there_is_one_row_a_candidate_with_the_positive_first(exported):
    expected = [
        (row["query_id"], candidate["video_id"], candidate["label"], candidate["delta"])
        for split, row in tiny_rows()["ranking"]
        if split == "train"
        for candidate in row["candidates"]
    ]

    found = lines(exported[0] / "train.jsonl")
    firsts = {row["query_id"]: row for row in reversed(found)}

    keys = ("query_id", "doc_id", "true_label", "teacher_logit_delta")
    assert sorted(map(repr, (tuple(row[key] for key in keys) for row in found))) == sorted(map(repr, expected))
    assert all(row["true_label"] == 1 for row in firsts.values())


def test_splits_do_not_mix(exported):
    train, validation = (
        {row["query_id"] for row in lines(exported[0] / f"{split}.jsonl")} for split in ("train", "validation")
    )

    assert len(train) == 38
    assert len(validation) == 15
    assert not train & validation


def groups_of_the_release(path, negatives, seed):
    """The groups that the release's trainer makes of a file of rows, in our own words.

    Rows are gathered by query_id; those of true_label 1 are positives, of 0 negatives. A query that lacks either is
    passed over. A group is the first positive and ``negatives`` drawn ones, or all where there are no more.
    """
    rng = random.Random(seed)
    rows = {}
    for line in path.read_text("utf-8").splitlines():
        row = json.loads(line)
        rows.setdefault(row["query_id"], {0: [], 1: []})[row["true_label"]].append(row)
    groups = {}
    for query_id, by_label in rows.items():
        if by_label[0] and by_label[1]:
            drawn = rng.sample(by_label[0], min(negatives, len(by_label[0])))
            groups[query_id] = [by_label[1][0], *drawn]
    return groups


@pytest.mark.parametrize("split", ["train", "validation"])
def test_the_release_makes_the_groups_that_our_trainer_reads(exported, split):
    ours = {example.query_id: example for example in read_queries(Shards(str(exported[0].parent / "out")), split)}

    whole = groups_of_the_release(exported[0] / f"{split}.jsonl", 100, seed=0)

    assert whole.keys() == ours.keys()
    for query_id, rows in whole.items():
        known = [
            (row["query"], row["doc_id"], row["true_label"], row["teacher_logit_delta"], row["teacher_p_yes"])
            for row in rows
        ]
        example = ours[query_id]
        expected = [(example.query, c.video_id, c.label, c.delta, c.p_yes) for c in example.candidates]
        assert known[0] == expected[0]
        assert sorted(known, key=repr) == sorted(expected, key=repr)


@pytest.mark.parametrize("negatives", [1, 2])
def test_groups_that_the_release_draws_have_the_shape_of_those_of_our_plan(exported, negatives):
    examples = read_queries(Shards(str(exported[0].parent / "out")), "train")
    plan = plan_queries(examples, epochs=1, batch=1, negatives=negatives, positives=1, seed=0)

    drawn = groups_of_the_release(exported[0] / "train.jsonl", negatives, seed=0)

    assert {item.key for item in plan} == drawn.keys()
    for item in plan:
        theirs = [row["doc_id"] for row in drawn[item.key]]
        assert (theirs[0], len(theirs)) == (item.video_ids[0], len(item.video_ids))


def test_a_missing_probability_stays_null(exported):
    unknown = [row for row in lines(exported[0] / "train.jsonl") if row["teacher_logit_delta"] is None]

    assert [row["teacher_p_yes"] for row in unknown] == [None]
    assert unknown[0]["teacher_label"] == 0


def test_labels_are_numbers_as_in_the_release_and_the_teachers_is_its_own(exported):
    rows = lines(exported[0] / "train.jsonl")
    said = {(row["query_id"], row["video_id"]): row["label"] for _, row in tiny_rows()["judgements"]}

    assert {row["true_label"] for row in rows} == {row["teacher_label"] for row in rows} == {0, 1}
    assert all(row["teacher_label"] == int(said[row["query_id"], row["doc_id"]] == "yes") for row in rows)


def test_evidence_and_path_are_those_of_the_video(exported):
    row = next(row for row in lines(exported[0] / "train.jsonl") if row["doc_id"] == "mars-1")

    assert row["videos"] == ["samples/mars-lander-test/mars-1.mp4"]
    assert row["evidence"]["asr"] == "engine cut off after eleven seconds\ntake 1 and counting"
    assert row["evidence"]["caption"].startswith("A lander hanging")


def test_paths_can_point_to_another_folder(exported, tmp_path):
    output = str(exported[0].parent / "out")

    export_rankvideo(output, str(tmp_path), "/data/videos/")

    assert {row["videos"][0] for row in lines(tmp_path / "perception_validation.jsonl")} == {
        f"/data/videos/flood-{number}.mp4" for number in range(3)
    }


def test_two_videos_of_one_file_name_are_refused_below_one_folder(tmp_path):
    rows = tiny_rows()
    for place, folder in ((0, "a"), (1, "b")):
        rows["videos"][place][1]["uri"] = f"/data/{folder}/1.mp4"
    write_rows(tmp_path / "out", rows)

    with pytest.raises(
        UnwritableExport, match=r"/data/a/1\.mp4 and /data/b/1\.mp4 have the same file name.*numeric-ids"
    ):
        export_rankvideo(str(tmp_path / "out"), str(tmp_path / "to"), "/videos")

    assert not (tmp_path / "to").exists()
    export_rankvideo(str(tmp_path / "out"), str(tmp_path / "to"))
    paths = [row["videos"][0] for row in lines(tmp_path / "to" / "perception_train.jsonl")]
    assert {"/data/a/1.mp4", "/data/b/1.mp4"} <= set(paths)


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    """An export with numeric ids, of an output whose videos are files of this machine, two of them of one name."""
    folder = tmp_path_factory.mktemp("numbered")
    rows = tiny_rows()
    for number, (_, row) in enumerate(rows["videos"]):
        path = folder / "in" / str(number) / ("clip.webm" if number < 2 else f"{row['video_id']}.mp4")
        path.parent.mkdir(parents=True)
        path.write_text(row["video_id"])
        row["uri"] = str(path)
    write_rows(folder / "out", rows)
    export_rankvideo(str(folder / "out"), str(folder / "to"), numeric_ids=True)
    return folder / "to"


def names_in(folder):
    header, *rows = [line.split("\t") for line in (folder / "videos.tsv").read_text().splitlines()]
    assert header == ["doc_id", "video_id", "path", "uri"]
    return {row[1]: row[0] for row in rows}


def path_of_the_release(video_id, folder):
    """Where the release's reranker looks for a video, in our own words."""
    return folder / f"{int(video_id) // 100 + 1:06d}" / f"{video_id}.mp4"


def test_the_releases_reranker_finds_every_video_of_the_candidate_map(numbered):
    names = names_in(numbered)
    originals = {name: video_id for video_id, name in names.items()}
    asked = json.loads((numbered / "candidates.json").read_text())

    assert asked.keys() == set(names.values())
    for doc_id in asked:
        assert path_of_the_release(doc_id, numbered / "videos").read_text() == originals[doc_id]


def test_numbered_files_say_the_same_as_those_with_our_ids(numbered, exported):
    names, plain = names_in(numbered), exported[0]
    for name in ("train.jsonl", "perception_validation.jsonl"):
        ours = [row | {"doc_id": names[row["doc_id"]], "videos": []} for row in lines(plain / name)]
        assert [row | {"videos": []} for row in lines(numbered / name)] == ours
        for row in lines(numbered / name):
            assert row["videos"] == [str(path_of_the_release(row["doc_id"], numbered / "videos"))]
    for name in ("run.trec", "qrels.trec"):
        ours = [line.split() for line in (plain / name).read_text().splitlines()]
        expected = [[*row[:2], names[row[2]], *row[3:]] for row in ours]
        assert [line.split() for line in (numbered / name).read_text().splitlines()] == expected
    scores = json.loads((plain / "run.json").read_text())
    assert json.loads((numbered / "run.json").read_text()) == {
        query_id: {names[video_id]: score for video_id, score in videos.items()} for query_id, videos in scores.items()
    }


def test_numbered_videos_of_another_folder_are_named_and_not_linked(exported, tmp_path):
    export_rankvideo(str(exported[0].parent / "out"), str(tmp_path), "/data/videos", numeric_ids=True)

    rows = lines(tmp_path / "perception_train.jsonl")
    assert all(row["videos"] == [f"/data/videos/000001/{row['doc_id']}.mp4"] for row in rows)
    assert not (tmp_path / "videos").exists()


def test_queries_are_tab_separated_and_cover_both_splits(exported):
    rows = [line.split("\t") for line in (exported[0] / "queries.tsv").read_text().splitlines()]

    assert len(rows) == 53
    assert all(len(row) == 2 for row in rows)
    assert dict(rows) == {row["query_id"]: row["query"] for _, row in tiny_rows()["ranking"]}


def test_white_space_in_a_query_cannot_break_its_line(tmp_path):
    rows = tiny_rows()
    rows["ranking"][0][1]["query"] = "two\twords\nand a line"
    write_rows(tmp_path / "out", rows)

    export_rankvideo(str(tmp_path / "out"), str(tmp_path / "to"))

    assert "two words and a line\n" in (tmp_path / "to" / "queries.tsv").read_text()


def test_run_and_candidate_map_say_the_same_as_the_trec_run(exported):
    folder, _ = exported
    trec = [line.split() for line in (folder / "run.trec").read_text().splitlines()]
    run, candidates = (json.loads((folder / name).read_text()) for name in ("run.json", "candidates.json"))

    assert {(q, v): s for q, videos in run.items() for v, s in videos.items()} == {
        (q, v): float(s) for q, _, v, _, s, _ in trec
    }
    assert {(q, v) for v, queries in candidates.items() for q in queries} == {(q, v) for q, _, v, *_ in trec}
    assert list(candidates) == sorted(candidates)


def test_ir_measures_reads_run_and_qrels(exported):
    folder, _ = exported

    found = ir_measures.calc_aggregate(
        [ir_measures.parse_measure("nDCG@10")],
        ir_measures.read_trec_qrels(str(folder / "qrels.trec")),
        ir_measures.read_trec_run(str(folder / "run.trec")),
    )

    assert 0.5 < next(iter(found.values())) < 1


def test_the_same_output_gives_the_same_bytes(exported, tmp_path):
    export_rankvideo(str(exported[0].parent / "out"), str(tmp_path))

    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {
        p.name: p.read_bytes() for p in exported[0].iterdir()
    }


def test_an_unfinished_output_is_not_exported(tmp_path):
    with pytest.raises(NotAnOutput):
        export_rankvideo(str(tmp_path), str(tmp_path / "to"))

    assert not (tmp_path / "to").exists()


def test_the_manifest_that_an_export_was_made_from_is_named(exported):
    manifest = (exported[0].parent / "out" / "manifest.json").read_bytes()

    source = json.loads((exported[0] / "SOURCE.json").read_text())

    assert source == {"manifest_sha256": hashlib.sha256(manifest).hexdigest()}


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("ranking/train-00000-of-00002.parquet", None),
        ("videos/part-00000-of-00002.parquet", b"PAR1 nothing PAR1"),
        ("run.trec", None),
        ("run.trec", b"one two\n"),
        ("run.trec", b"\xff\n"),
        ("qrels.trec", None),
    ],
)
def test_a_missing_or_damaged_file_is_named_in_one_line(file, content, tmp_path):
    write_tiny(tmp_path / "out")
    (tmp_path / "out" / file).unlink()
    if content is not None:
        (tmp_path / "out" / file).write_bytes(content)

    with pytest.raises(UnreadableOutput, match=f"{file} cannot be read .*: run hardquery verify") as raised:
        export_rankvideo(str(tmp_path / "out"), str(tmp_path / "to"))

    assert "\n" not in str(raised.value)


def test_a_video_that_is_not_in_the_output_is_named(tmp_path):
    rows = tiny_rows()
    rows["perception"][0][1]["video_id"] = "nowhere"
    write_rows(tmp_path / "out", rows)

    with pytest.raises(UnreadableOutput, match="'nowhere'"):
        export_rankvideo(str(tmp_path / "out"), str(tmp_path / "to"))


def test_a_destination_that_is_a_file_is_refused(tmp_path):
    write_tiny(tmp_path / "out")
    (tmp_path / "to").write_text("x")

    for destination in (tmp_path / "to", tmp_path / "to" / "below"):
        with pytest.raises(UnwritableExport, match="cannot export to"):
            export_rankvideo(str(tmp_path / "out"), str(destination))

    assert (tmp_path / "to").read_text() == "x"


def test_a_damaged_line_of_the_qrels_is_named(tmp_path):
    write_tiny(tmp_path / "out")
    (tmp_path / "out" / "qrels.trec").write_bytes(b"\xff\n")

    with pytest.raises(UnreadableOutput, match=r"qrels\.trec cannot be read"):
        export_rankvideo(str(tmp_path / "out"), str(tmp_path / "to"))
