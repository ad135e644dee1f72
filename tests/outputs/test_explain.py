from dataclasses import replace

import pytest

from pipeline.outputs.errors import UnreadableOutput
from pipeline.outputs.explain.explain import UnknownId, explain
from pipeline.outputs.manifest import NotAnOutput, PromptText, read_manifest, write_manifest
from prompts.evidence import EvidenceBudgets, evidence_cut
from prompts.judge import judge_prompt
from schemas.tables import row_of
from tests.support.tiny_by_video import write_tiny_by_video
from tests.support.tiny_output import evidence_record, tiny_rows, write_rows, write_tiny


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explain")
    write_tiny(folder)
    return str(folder)


@pytest.fixture(scope="module")
def queries():
    return [row for _, row in tiny_rows()["queries"]]


def dropped(queries, reason):
    return next(row for row in queries if row["reason"] == reason)


def flat(text):
    """The text without the line breaks that wrapping put into it."""
    return " ".join(text.split())


def test_a_kept_query_is_told_from_evidence_to_example(output, queries):
    query = queries[0]

    told = explain(output, query["query_id"])

    for said in (
        query["text"],
        query["rationale"],
        "0.5-3.0 s 0.81 the last boat of the parade passes",
        "1.0-4.0 s 0.93 PIER 7",
        "asr (pocketsphinx)",
        "rules 0.1.0",
        "retrievable_at 1000",
        "alpha1 -6.0",
        "trusted negative, in the example",
        "found its video at rank 1, score 12.5",
        "2 negatives in train" if "2 negatives" in flat(told) else "3 negatives in train",
        "label 1 positive harbour-0",
        "word for word what was sent",
        "BEGIN EVIDENCE",
        query["reply"],
    ):
        assert said in flat(told), said


def test_a_written_query_says_with_which_sampling_and_how_hard_its_writer_thinks_it_is(tmp_path, output, queries):
    told = flat(explain(output, queries[1]["query_id"]))

    assert "asked with seed 1001, the engine's own temperature, at attempt 1" in told
    assert "difficulty indirection 1, multi hop 2, causal 2; sentence, cross modal 2, 75 % of its content" in told
    assert "cites caption: sailing boats" in told

    rows = tiny_rows()
    rows["queries"][0][1]["difficulty"]["rated"] = None
    manifest = write_rows(tmp_path, rows)
    recipe = {**manifest.recipe, "synthesize": {"teacher": {"engine": "openai", "temperature": 0.7}}}
    write_manifest(str(tmp_path), replace(manifest, recipe=recipe))
    told = flat(explain(str(tmp_path), queries[0]["query_id"]))
    assert "asked with seed 1000, temperature 0.7, at attempt 2" in told
    assert "difficulty not rated; sentence, cross modal 1" in told


def test_a_pair_without_probabilities_says_none(output, queries):
    assert " none " in explain(output, queries[0]["query_id"])


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("too short", "dropped by synthesize: too short (3 words, at least 4)"),
        ("ambiguous", "dropped by mine: ambiguous (best negative 31.0, positive 12.5, ratio 2.0)"),
        ("no trusted negative", "dropped by curate: no trusted negative (0 of 2 negatives, at least 1)"),
    ],
)
def test_a_dropped_query_names_stage_rule_and_numbers(output, queries, reason, said):
    told = explain(output, dropped(queries, reason)["query_id"])

    assert said in flat(told)
    assert "The example" not in told


def test_the_thresholds_shown_are_those_of_the_stage_that_dropped(output, queries):
    mined = explain(output, dropped(queries, "ambiguous")["query_id"])
    curated = explain(output, dropped(queries, "teacher disagrees")["query_id"])

    assert "ambiguity ratio of bm25 2.0" in mined
    assert "alpha1" not in mined
    assert "alpha1 -6.0" in curated


def test_a_video_is_told_with_its_queries_and_the_pairs_it_was_judged_in(output):
    told = flat(explain(output, "flood-2"))

    for said in (
        "samples/flood-relief/flood-2.mp4",
        "h264 320x180, no sound, 6.0 s",
        "split validation, as its event 'flood-relief'",
        "asr: no audio, the file has no audio stream",
        "4 in the shards",
        "Queries written for it",
        "Judged as a candidate",
        "suspected positive, left out",
    ):
        assert said in told, said


def test_a_pair_shows_margin_stratum_prompt_and_reply(output):
    pair = next(row for _, row in tiny_rows()["judgements"] if row["stratum"] == "hard_negative" and row["delta"])

    told = flat(explain(output, f"{pair['query_id']}:{pair['video_id']}"))

    for said in (
        "rules 0.1.0 says no",
        f"margin {pair['delta']:+.2f}",
        "from rules",
        "label mass 1.0000 of the probability is on yes or no",
        "stratum hard negative",
        "word for word what was sent",
        "Does this video answer the query?",
        "<answer>no</answer>",
    ):
        assert said in told, said


def test_a_pair_says_what_its_prompt_left_out_and_that_the_prior_decided(tmp_path):
    rows = tiny_rows()
    pair = next(row for _, row in rows["judgements"] if row["stratum"] == "hard_negative" and row["delta"])
    evidence = evidence_record(next(row for _, row in rows["videos"] if row["video_id"] == pair["video_id"]))
    text = next(row["text"] for _, row in rows["queries"] if row["query_id"] == pair["query_id"])
    budgets = EvidenceBudgets(caption=20)
    pair["prompt_sha256"] = judge_prompt(evidence, ("caption",), pair["video_id"], text, budgets).sha256
    (cut,) = evidence_cut(evidence, ("caption",), budgets)
    pair |= {"evidence_cut": [row_of(cut)], "confidence_source": "prior", "delta_prior": pair["delta"], "rationale": ""}
    output = tmp_path / "out"
    write_tiny(output, rows)

    told = flat(explain(str(output), f"{pair['query_id']}:{pair['video_id']}"))

    for said in (
        f"evidence cut caption: the first {cut.shown} of {cut.of} characters",
        "from prior",
        f"{pair['delta']:+.2f} without a rationale",
        "(none: judged no by the prior alone)",
        "word for word what was sent",
        "[cut]",
    ):
        assert said in told, said
    assert "caption for judgements" in (output / "report.html").read_text()


def test_a_prompt_that_is_no_longer_what_was_sent_says_so(tmp_path, queries):
    rows = tiny_rows()
    for _, row in rows["videos"]:
        row["caption"] += " And more."
    write_rows(tmp_path, rows)

    assert "NOT what was sent: its hash differs" in flat(explain(str(tmp_path), queries[0]["query_id"]))


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        ({}, "the manifest holds no prompt 'write_queries'"),
        ({"write_queries": PromptText("x", "{{other}}")}, "prompt 'write_queries' has slots ['other']"),
    ],
)
def test_a_prompt_that_cannot_be_rendered_says_why(tmp_path, queries, prompts, said):
    write_tiny(tmp_path)
    write_manifest(str(tmp_path), replace(read_manifest(str(tmp_path)), prompts=prompts))

    assert said in flat(explain(str(tmp_path), queries[0]["query_id"]))


def test_a_file_that_failed_is_told_by_its_address(output):
    assert "extract/decode: UndecodableVideo: moov atom not found" in explain(output, "samples/bad/cut.mp4")


def test_a_video_that_was_rejected_is_told_by_its_id(tmp_path):
    rows = tiny_rows()
    rejection = {"stage": "extract", "step": "deduplicate", "reason": "duplicate file", "detail": "as a.mp4"}
    rows["rejections"].append(("part", {**rejection, "video_id": "copy-1", "query_id": ""}))
    write_rows(tmp_path, rows)

    assert "extract/deduplicate: duplicate file: as a.mp4" in explain(str(tmp_path), "copy-1")


def test_a_pair_that_was_left_out_before_the_judge_is_told_by_its_ids(output):
    rejections = [row for _, row in tiny_rows()["rejections"]]
    left_out = next(row for row in rejections if (row["stage"], row["step"]) == ("mine", "guard"))

    told = explain(output, f"{left_out['query_id']}:{left_out['video_id']}")

    assert told.startswith(f"REJECTED {left_out['query_id']}:{left_out['video_id']}")
    assert "mine/guard: near duplicate: of it" in told


def test_an_unknown_id_names_the_forms_and_the_nearest(output, queries):
    query_id = queries[0]["query_id"]

    with pytest.raises(UnknownId, match=rf"a pair QUERY_ID:VIDEO_ID; the nearest: {query_id}"):
        explain(output, query_id[:-2])
    with pytest.raises(UnknownId, match=f"the nearest: .*{query_id}:harbour-0"):
        explain(output, f"{query_id}:harbour-")
    with pytest.raises(UnknownId, match=r"QUERY_ID:VIDEO_ID$"):
        explain(output, "???")


def test_ids_may_hold_colons(tmp_path):
    rows = tiny_rows()
    old = rows["judgements"][0][1]["video_id"]
    for table in ("videos", "judgements", "queries", "perception"):
        for _, row in rows[table]:
            if row["video_id"] == old:
                row["video_id"] = "site:a:1"
    query_id = rows["judgements"][0][1]["query_id"]
    write_rows(tmp_path, rows)

    assert explain(str(tmp_path), f"{query_id}:site:a:1").startswith(f"PAIR {query_id}:site:a:1")


def test_evidence_cannot_send_commands_to_the_terminal(tmp_path):
    rows = tiny_rows()
    rows["videos"][0][1]["caption"] = "red \x1b[31m text \u202e\x07\x9b2J"
    write_rows(tmp_path, rows)

    told = explain(str(tmp_path), rows["videos"][0][1]["video_id"])

    assert all(character.isprintable() or character == "\n" for character in told)
    assert "[31m text" in told


def test_a_human_query_has_no_prompt(tmp_path):
    rows = tiny_rows()
    rows["queries"][0][1].update(
        source="human", writer=None, variant=None, query_type=None, rationale="", modalities=[]
    )
    write_rows(tmp_path, rows)

    told = explain(str(tmp_path), rows["queries"][0][1]["query_id"])

    assert "people; its video is harbour-0" in told
    assert "The prompt that wrote it" not in told


def test_an_unfinished_output_cannot_be_explained(tmp_path):
    with pytest.raises(NotAnOutput):
        explain(str(tmp_path), "q-1")


@pytest.mark.parametrize(
    "file", ["queries/part-00000-of-00002.parquet", "videos/part-00001-of-00002.parquet", "run.trec"]
)
def test_a_missing_or_damaged_file_is_named_in_one_line(file, tmp_path):
    write_tiny(tmp_path)
    query_ids = [row["query_id"] for _, row in tiny_rows()["ranking"]]
    for damage in (lambda path: path.write_text("no"), lambda path: path.unlink()):
        damage(tmp_path / file)

        with pytest.raises(UnreadableOutput, match=f"{file} cannot be read .*: run hardquery verify") as raised:
            [explain(str(tmp_path), query_id) for query_id in query_ids]

        assert "\n" not in str(raised.value)


def test_a_file_is_found_by_its_name_and_two_of_one_name_are_told_apart(tmp_path):
    rows = tiny_rows()
    video, other = (row for _, row in rows["videos"][:2])
    video["uri"], other["uri"] = "/videos/a/clip.mp4", "/videos/b/clip.mp4"
    write_rows(tmp_path, rows)

    assert explain(str(tmp_path), "a/clip.mp4").startswith(f"VIDEO {video['video_id']}")
    with pytest.raises(
        UnknownId, match=r"2 files are named 'clip\.mp4'; give one whole: /videos/a/clip\.mp4, /videos/b"
    ):
        explain(str(tmp_path), "clip.mp4")


def test_queries_that_look_like_one_are_told_of_it_of_its_video_and_of_themselves(made_once):
    output = str(made_once("explained_by_video", write_tiny_by_video))
    [row, *_] = read_manifest(output).tables(output).rows("ranking_by_video")
    true, year, _ = row["candidates"]

    story, of_video, of_itself = (
        explain(output, name) for name in (row["query_id"], row["video_id"], year["query_id"])
    )

    for text in (story, of_video, of_itself):
        assert year["query_id"] in text
    assert "The group of its video" in story
    assert "Queries that look like its own, which it does not answer" in of_video
    assert of_itself.startswith(f"NEGATIVE QUERY {year['query_id']}")
    assert "no, margin -9.00" in of_itself
    assert true["query_id"] in of_itself
