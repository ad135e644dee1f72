import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.outputs.diff.compare import Side
from pipeline.outputs.diff.diff import diff
from pipeline.outputs.diff.text import Examples, diff_text, row_json, summary_json
from pipeline.outputs.manifest import NotAnOutput, PromptText, read_manifest, write_manifest
from pipeline.outputs.marks import LabelsUsed
from pipeline.outputs.tables import read_group
from runners.cli.main import main
from schemas.tables import TABLES
from tests.support.tiny_output import tiny_rows, write_tiny


@pytest.fixture(scope="module")
def a(tmp_path_factory):
    return output(tmp_path_factory.mktemp("diff") / "a")


@pytest.fixture
def b(tmp_path):
    """Writes another output."""
    return lambda *args, **fields: output(tmp_path / "b", *args, **fields)


def output(folder, rows=None, recipe=None, engines=None, prompts=None, **fields):
    """A tiny output of these rows, with other values in its manifest."""
    write_tiny(folder, rows)
    manifest = read_manifest(str(folder))
    for key, value in (recipe or {}).items():
        manifest = replace(manifest, recipe=set_value(manifest.recipe, key.split("."), value))
    manifest = replace(manifest, engines=manifest.engines | (engines or {}), **fields)
    write_manifest(str(folder), replace(manifest, prompts=manifest.prompts | (prompts or {})))
    return str(folder)


def set_value(section, path, value):
    first, *rest = path
    return {**section, first: set_value(section.get(first, {}), rest, value) if rest else value}


def found_rows(a, b):
    """The Diff, and its rows by table."""
    rows = {name: [] for name in TABLES}
    found = diff(a, b, lambda *_: True, lambda row: rows[row.change.table].append(row))
    return found, rows


def text(a, b, limit=10):
    examples = Examples(limit)
    return diff_text(diff(a, b, examples.wanted, examples.add), examples)


def why(rows):
    return {"; ".join(map(str, row.causes)) for row in rows}


def given(found):
    return [str(cause) for cause in found.given.all()]


def edited(table, edit, of=lambda row: True):
    rows = tiny_rows()
    for _, row in rows[table]:
        if of(row):
            edit(row)
    return rows


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


def test_queries_of_a_variant_that_one_recipe_lacks_are_due_to_the_recipe(a, b):
    rows = tiny_rows()
    rows["queries"] = [(part, row) for part, row in rows["queries"] if row["variant"] != "ocr"]
    four = ["caption", "asr", "metadata", "all"]

    _, rows = found_rows(a, b(rows, {"synthesize.variants": four}))

    (cause,) = why(rows["queries"])
    assert cause.startswith("recipe synthesize.variants: (not set) -> [")
    assert all(row.before["text"] for row in rows["queries"])


def test_a_dropped_query_is_due_to_the_rule_that_dropped_it(a, b):
    rows = tiny_rows()
    query_id = rows["ranking"][0][1]["query_id"]
    query = next(row for _, row in rows["queries"] if row["query_id"] == query_id)
    query.update(verdict="dropped", stage="synthesize", reason="too short", detail="8 words, at least 9")
    rejection = {"stage": "synthesize", "step": "filter", "reason": "too short", "detail": "8 words, at least 9"}
    rows["rejections"].append(("part", rejection | {"video_id": query["video_id"], "query_id": query_id}))
    del rows["ranking"][0]
    rows["judgements"] = [(part, row) for part, row in rows["judgements"] if row["query_id"] != query_id]

    _, rows = found_rows(a, b(rows, {"synthesize.filters.min_words": 9}))

    cause = "recipe synthesize.filters.min_words: (not set) -> 9"
    assert why(rows["queries"]) == {cause}
    for table in ("rejections", "judgements", "ranking"):
        assert why(rows[table]) == {f"{cause} (through query)"}, table


def test_what_people_marked_is_the_cause_of_all_that_it_took_out(a, b):
    rows = tiny_rows()
    dropped, other = (row["query_id"] for _, row in rows["ranking"][:2])
    query = next(row for _, row in rows["queries"] if row["query_id"] == dropped)
    query.update(verdict="dropped", stage="curate", reason="marked wrong positive", detail="by a person")
    rejection = {"stage": "curate", "step": "queries", "reason": "marked wrong positive", "detail": "by a person"}
    rows["rejections"].append(("part", rejection | {"video_id": query["video_id"], "query_id": dropped}))
    judged = [row for _, row in rows["judgements"]]
    for row in judged:
        if row["query_id"] == dropped and row["stratum"] != "suspected_positive":
            row.update(kept=False, reason="query dropped")
    false = next(row for row in judged if row["query_id"] == other and row["stratum"] == "hard_negative")
    false.update(kept=False, reason="marked false negative")
    rows["ranking"][1][1]["candidates"] = [
        each for each in rows["ranking"][1][1]["candidates"] if each["video_id"] != false["video_id"]
    ]
    del rows["ranking"][0]
    used = LabelsUsed("labels.jsonl", "ab" * 32, {"wrong positive": 1, "false negative": 1})

    found, rows = found_rows(a, b(rows, labels=used))

    cause = "marks by people: none -> 2 (abababab)"
    assert given(found) == [cause]
    assert why(rows["queries"]) == {cause}
    assert why(rows["judgements"]) == {cause, f"{cause} (through query)"}
    assert why(rows["ranking"]) == {f"{cause} (through query)", f"{cause} (through judgements)"}
    assert why(rows["rejections"]) == {f"{cause} (through query)"}


def test_a_near_duplicate_is_followed_to_the_query_that_it_gives_way_to(a, b):
    rows = tiny_rows()
    kept = next(row for _, row in rows["queries"] if row["verdict"] == "kept" and row["variant"] == "all")
    rival = next(row for _, row in rows["queries"] if row["variant"] == "ocr")
    rows["queries"] = [pair for pair in rows["queries"] if pair[1]["query_id"] != rival["query_id"]]
    four = {"synthesize.variants": ["caption", "asr", "metadata", "all"]}

    def copied(row):
        similar = f"similar to {rival['query_id']}"
        row.update(verdict="dropped", stage="synthesize", reason="near duplicate", detail=similar)

    two_alike = output(f"{b(rows, four)}-a", edited("queries", copied, lambda row: row["query_id"] == kept["query_id"]))
    _, found = found_rows(two_alike, b(rows, four))

    changed = next(row for row in found["queries"] if row.change.key == (kept["query_id"],))
    assert {cause.through for cause in changed.causes} == {"another query"}
    assert {cause.kind for cause in changed.causes} == {"recipe"}


def test_a_query_by_people_that_one_output_lacks_is_a_change_of_the_input(a, b):
    rows = tiny_rows()
    part, written = rows["queries"][0]
    by_people = {"query_id": "h1", "source": "human", "query_type": None, "variant": None, "writer": None}
    rows["queries"].append((part, written | by_people))

    _, rows = found_rows(a, b(rows))

    assert why(rows["queries"]) == {"input: query by people added"}


def test_a_verdict_that_a_budget_left_for_later_is_named_so(a, b):
    rows = tiny_rows()
    _, lacking = rows["judgements"].pop()
    other = b(rows)
    path = f"{other}/ledger.json"
    with open(path) as file:
        ledger = json.load(file)
    next(line for line in ledger["steps"] if line["step"] == "judge")["deferred"] = {"max calls": 1}
    with open(path, "w") as file:
        json.dump(ledger, file)

    _, rows = found_rows(a, other)

    (row,) = rows["judgements"]
    assert row.change.key == (lacking["query_id"], lacking["video_id"])
    assert why([row]) == {"deferred in B at judge (max calls)"}


def test_a_query_that_waits_for_more_budget_is_told_from_one_that_a_rule_dropped(a, b):
    def waits(row):
        row.update(verdict="deferred", stage="judge", reason="max calls")

    kept = next(row["query_id"] for _, row in tiny_rows()["queries"] if row["verdict"] == "kept")

    _, rows = found_rows(a, b(edited("queries", waits, lambda row: row["query_id"] == kept), {"curate.alpha1": -7.0}))

    assert why(rows["queries"]) == {"deferred in B at judge (max calls)"}


def test_a_change_without_a_cause_is_shown_as_such_and_first(a, b):
    def reworded(row):
        row["rationale"] = "Said otherwise."

    first = tiny_rows()["judgements"][0][1]

    other = b(edited("judgements", reworded, lambda row: row["query_id"] == first["query_id"]), {"curate.alpha1": -7.0})

    told = text(a, other)
    assert "judgements  changed           4  no cause found in the manifests: judging" in told
    assert "rationale: " in told
    assert "recipe curate.alpha1: -6.0 -> -7.0" in told


def test_another_version_of_the_code_is_named_where_nothing_else_differs(a, b):
    def reworded(row):
        row["rationale"] = "Said otherwise."

    _, rows = found_rows(a, b(edited("judgements", reworded), hardquery="9.9"))

    (cause,) = why(rows["judgements"])
    assert cause.startswith("hardquery: ")
    assert cause.endswith(" -> 9.9")


def test_another_version_of_a_library_is_named_where_nothing_else_differs(a, b):
    def repainted(row):
        row["frames"] = [{**frame, "bytes": frame["bytes"] + b"x"} for frame in row["frames"]]

    older, newer = ({"pillow": version, "ffmpeg": "8.1.2"} for version in ("12.3.0", "12.4.0"))
    first = output(Path(a).parent / "older", libraries=older)
    _, rows = found_rows(first, b(edited("videos", repainted), libraries=newer))

    assert why(rows["videos"]) == {"pillow: 12.3.0 -> 12.4.0"}


def test_control_characters_of_rows_recipes_and_prompts_do_not_reach_the_terminal(a, b):
    canary = "\x1b[31m\u202ecanary\x9b\n"

    def spoiled(row):
        row["caption"] = canary

    judge = PromptText("c0ffee0011223344", canary)
    other = b(edited("videos", spoiled), {"description": canary, "name": canary}, prompts={"judge": judge})

    told = text(a, other)
    rows = []
    found = diff(a, other, lambda *_: True, rows.append)
    lines = [*map(row_json, rows), *summary_json(found)]

    assert told.count("canary") > 3
    assert all(character == "\n" or character.isprintable() for character in told)
    assert any("canary" in line for line in lines)
    assert all(line.isascii() and line.isprintable() for line in lines)


def test_frames_are_not_read_where_their_sizes_are_the_same(a, b, monkeypatch):
    def other_caption(row):
        row["caption"] += " More."

    read = []

    def watched(file, group, columns):
        read.append(columns)
        return read_group(file, group, columns)

    other = b(edited("videos", other_caption))
    monkeypatch.setattr("pipeline.outputs.diff.compare.read_group", watched)
    _, rows = found_rows(a, other)

    assert {row.change.columns for row in rows["videos"]} == {("caption",)}
    assert read
    assert all("frames" not in columns for columns in read)


def test_frames_that_differ_are_found_by_hash_and_only_named(a, b):
    def darker(row):
        row["frames"][2] = {"bytes": b"another jpeg", "path": None}

    _, rows = found_rows(a, b(edited("videos", darker, lambda row: row["video_id"] == "mars-1")))

    (row,) = rows["videos"]
    assert row.change.columns == ("frames",)
    assert (row.before, row.after) == ({}, {})
    assert why([row]) == {"no cause found in the manifests: frames"}


def test_outputs_of_different_numbers_of_shards_are_compared_row_by_row(a, tmp_path, monkeypatch):
    monkeypatch.setattr("tests.support.tiny_output.SHARDS", 4)
    quarters = output(tmp_path / "quarters")
    monkeypatch.setattr("tests.support.tiny_output.SHARDS", 3)
    thirds = output(tmp_path / "thirds")

    for other in (quarters, thirds):
        found, _ = found_rows(a, other)
        assert not found.rows_differ
        assert found.same["judgements"] == len(tiny_rows()["judgements"])


def test_rejections_of_one_key_are_paired_with_their_equals(a, tmp_path):
    def lacking(*variants):
        rows = tiny_rows()
        call = {"stage": "synthesize", "step": "write", "reason": "no evidence", "video_id": "mars-1", "query_id": ""}
        rows["rejections"] += [("part", call | {"detail": f"variant {name}: none"}) for name in variants]
        return rows

    _, rows = found_rows(output(tmp_path / "two", lacking("asr", "ocr")), output(tmp_path / "one", lacking("ocr")))

    assert [(row.change.kind, row.before) for row in rows["rejections"]] == [
        ("only in A", {"detail": "variant asr: none"})
    ]
    assert why(rows["rejections"]) == {"no cause found in the manifests: writing"}


def test_the_command_ends_with_0_unless_asked_for_an_exit_code(a, b, capsys):
    def reworded(row):
        row["rationale"] = "Said otherwise."

    other = b(edited("judgements", reworded))

    assert main(["diff", a, other]) == 0
    assert "judgements: 10 of " in capsys.readouterr().out
    assert main(["diff", a, other, "--exit-code", "--rows", "2"]) == 3
    assert "judgements: 2 of " in capsys.readouterr().out
    assert main(["diff", a, a, "--exit-code"]) == 0


def test_the_command_prints_every_row_and_count_as_json_lines(a, b, capsys):
    def reworded(row):
        row["rationale"] = "Said otherwise."

    assert main(["diff", a, b(edited("judgements", reworded)), "--json"]) == 0

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    rows = [line for line in lines if line["kind"] == "row"]
    assert len(rows) == len(tiny_rows()["judgements"])
    assert rows[0]["key"].keys() == {"query_id", "video_id"}
    assert rows[0]["after"] == {"rationale": "Said otherwise."}
    assert [line["rows"] for line in lines if line["kind"] == "why"] == [len(rows)]


def test_a_folder_that_is_no_output_is_wrong_usage(a, tmp_path, capsys):
    with pytest.raises(NotAnOutput):
        found_rows(a, str(tmp_path))
    assert main(["diff", a, str(tmp_path)]) == 2
    assert "is not a finished hardquery output" in capsys.readouterr().err
