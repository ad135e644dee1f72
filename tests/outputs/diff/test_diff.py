"""What settings, prompts, engines and inputs changed, followed to the rows that differ."""

from dataclasses import replace

import pytest

from pipeline.outputs.diff.compare import Side
from pipeline.outputs.manifest import PromptText, read_manifest
from tests.support.tiny_output import tiny_rows
from tests.support.two_outputs import edited, found_rows, given, output, text, why


def test_an_output_and_its_copy_have_the_same_rows_and_are_not_read(a, b, monkeypatch):
    other = b()
    monkeypatch.setattr(Side, "read", lambda *_: pytest.fail("a table was read"))

    found, _ = found_rows(a, other)

    assert not found.rows_differ
    assert found.same["videos"] == 12
    assert given(found) == []
    assert "every row of every table is the same" in text(a, other)


def test_a_changed_judge_prompt_is_named_with_its_text(a, b):
    def asked_anew(row):
        row.update(prompt_sha256="f" * 64, rationale="Said otherwise.")

    prompt = read_manifest(a).prompts["judge"]
    changed = PromptText("c0ffee0011223344", prompt.text.replace("Answer yes if", "Say yes when"))
    other = b(edited("judgements", asked_anew), prompts={"judge": changed})

    found, rows = found_rows(a, other)

    cause = f"prompt judge: {prompt.version[:8]} -> c0ffee00"
    assert given(found) == [cause]
    assert why(rows["judgements"]) == {cause}
    assert {row.change.columns for row in rows["judgements"]} == {("rationale", "prompt_sha256")}
    assert found.same["judgements"] == 0
    assert "+Say yes when" in text(a, other)


def test_a_changed_threshold_is_the_cause_of_strata_and_groups_and_of_nothing_else(a, b):
    def hardened(row):
        row["stratum"] = "hard_negative"

    def lies_between(row):
        return row["stratum"] == "trusted_negative" and row["delta"] == -6.5

    rows = edited("judgements", hardened, lies_between)
    for _, group in rows["ranking"]:
        for candidate in filter(lies_between, group["candidates"]):
            hardened(candidate)
    found, rows = found_rows(a, b(rows, recipe={"curate.alpha1": -7.0}))

    assert given(found) == ["recipe curate.alpha1: -6.0 -> -7.0"]
    assert why(rows["judgements"]) == why(rows["ranking"]) == {"recipe curate.alpha1: -6.0 -> -7.0"}
    assert {row.change.columns for row in rows["judgements"]} == {("stratum",)}
    assert rows["judgements"][0].before == {"stratum": "trusted_negative"}
    assert rows["judgements"][0].after == {"stratum": "hard_negative"}


@pytest.fixture
def other_speech():
    """Rows in which one video's speech is another, by an engine of another version, and its judgements are, too."""
    rows = tiny_rows()
    heard = rows["videos"][0][1]
    heard["asr"][0]["text"] = "the last boat of the charade passes"
    next(use for use in heard["engines"] if use["part"] == "asr")["engine"].update(version="6.0.0", fingerprint="a1")
    judged = [row for _, row in rows["judgements"] if row["video_id"] == heard["video_id"] and row["kept"]]
    for row in judged:
        row.update(prompt_sha256="f" * 64, rationale="Another thought.")
    group = next(row for _, row in rows["ranking"] if row["query_id"] == judged[0]["query_id"])
    group["candidates"][0]["rationale"] = "Another thought."
    return rows


def newer(engine):
    return replace(engine, version="6.0.0", fingerprint="a1")


def test_an_engine_s_version_is_followed_from_speech_to_judgements_and_groups(tmp_path, b, other_speech):
    sees_speech = {"judge.modalities": ["caption", "asr"]}
    a = output(tmp_path / "a", recipe=sees_speech)
    asr = newer(read_manifest(a).engines["asr"])

    found, rows = found_rows(a, b(other_speech, sees_speech, engines={"asr": asr}))

    cause = "asr version: 5.1.1 -> 6.0.0"
    assert given(found) == [cause]
    assert why(rows["videos"]) == {cause}
    assert rows["videos"][0].change.columns == ("asr", "engines")
    assert why(rows["judgements"]) == {f"{cause} (through evidence)"}
    assert why(rows["ranking"]) == {f"{cause} (through judgements)"}


def test_a_judgement_that_changes_with_evidence_it_never_saw_is_unexplained(a, b, other_speech):
    asr = newer(read_manifest(a).engines["asr"])

    _, rows = found_rows(a, b(other_speech, engines={"asr": asr}))

    assert why(rows["judgements"]) == {"no cause found in the manifests: judging"}
    assert why(rows["ranking"]) == {"no cause found in the manifests: judging (through judgements)"}


def test_the_option_of_an_engine_is_named(a, b):
    def cooler(row):
        row["teacher"]["fingerprint"] = "j1"
        row["reply"] += " "

    judge = replace(read_manifest(a).engines["judge"], fingerprint="j1")
    other = b(edited("judgements", cooler), {"judge.teacher": {"temperature": 0.7}}, {"judge": judge})

    found, rows = found_rows(a, other)

    assert why(rows["judgements"]) == {'judge options: judge.teacher: (not set) -> {"temperature": 0.7}'}
    assert "recipe judge.teacher" in given(found)[0]


def test_other_media_under_the_same_id_explains_all_evidence_of_the_video(a, b):
    def other_file(row):
        row["media"] |= {"sha256": "e" * 64, "size_bytes": 1}
        row["caption"] = "Something else."
        row["asr"] = []
        row["frames"] = [{"bytes": b"another jpeg", "path": None}]

    found, rows = found_rows(a, b(edited("videos", other_file, lambda row: row["video_id"] == "mars-1")))

    assert why(rows["videos"]) == {"input: media changed"}
    assert rows["videos"][0].change.columns == ("media", "caption", "asr", "frames")
    assert "input: media changed (1 row)" in text(a, found.outputs[1])


def without(video_id):
    """The tiny rows as a run on one video fewer would have written them."""
    rows = tiny_rows()
    of = {row["query_id"] for _, row in rows["queries"] if row["video_id"] == video_id}
    for name in ("videos", "queries", "perception", "judgements", "ranking", "rejections"):
        rows[name] = [
            (part, row) for part, row in rows[name] if row.get("video_id") != video_id and row.get("query_id") not in of
        ]
    for _, row in rows["ranking"]:
        row["candidates"] = [one for one in row["candidates"] if one["video_id"] != video_id]
    return rows


def test_an_added_video_explains_its_queries_judgements_groups_and_what_it_displaced(a, b):
    fewer = b(without("harbour-1"))

    found, rows = found_rows(fewer, a)

    assert {row.change.key for row in rows["videos"]} == {("harbour-1",)}
    assert why(rows["videos"]) == {"input: video added"}
    assert why(rows["queries"]) == why(rows["perception"]) == {"input: video added (through video)"}
    assert why(rows["judgements"]) == {
        "input: video added (through query)",
        "input: video added (through the corpus)",
    }
    assert why(rows["ranking"]) == {"input: video added (through query)", "input: video added (through judgements)"}
    assert found.count("queries", "only in B") == 5
    assert not found.count("queries", "only in A")
    _, removed = found_rows(a, fewer)
    assert why(removed["videos"]) == {"input: video removed"}


def test_a_video_that_failed_in_one_output_only_is_no_change_of_the_input(a, b):
    rows = without("night-1")
    uri = next(row["uri"] for _, row in tiny_rows()["videos"] if row["video_id"] == "night-1")
    failure = {"stage": "extract", "step": "decode", "error_class": "WorkerDied", "message": "", "uri": uri}
    rows["failures"].append(("part", failure | {"video_id": "", "query_id": ""}))

    _, rows = found_rows(a, b(rows))

    assert why(rows["videos"]) == {"no cause found in the manifests: decoding, which failed in one"}
    assert why(rows["failures"]) == {"no cause found in the manifests: decoding, which failed in one (through video)"}


def test_a_renamed_video_is_told_from_a_new_one_by_its_address(a, b):
    def renamed(row):
        row.update(video_id="mars-one")

    _, rows = found_rows(a, b(edited("videos", renamed, lambda row: row["video_id"] == "mars-1")))

    assert sorted(row.change.kind for row in rows["videos"]) == ["only in A", "only in B"]
    assert why(rows["videos"]) == {"input: video_id changed"}
