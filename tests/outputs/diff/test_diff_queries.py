"""Queries that one output lacks, and rows whose difference has another cause, or none."""

import json
from pathlib import Path

from pipeline.outputs.marks import LabelsUsed
from tests.support.tiny_output import tiny_rows
from tests.support.two_outputs import edited, found_rows, given, output, text, why


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
    assert "judgements        changed           4  no cause found in the manifests: judging" in told
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
