"""Explanations: all that an output knows of one query, video or pair, as a story that can be read or piped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pipeline.outputs.explain.by_name import files_named
from pipeline.outputs.explain.how_found import how_found, standing
from pipeline.outputs.explain.how_judged import how_hard, how_the_panel_judged, what_the_label_rests_on
from pipeline.outputs.explain.how_written import cut_lines, engine_line, how_written
from pipeline.outputs.explain.look_alikes import look_alikes_of_video, negative_query, the_group_of_its_video
from pipeline.outputs.explain.prompts_again import Rendered, judging_prompt, writing_prompt
from pipeline.outputs.manifest import Manifest, read_manifest
from pipeline.outputs.plain_text import Lines, field, heading, page, wrapped
from pipeline.outputs.run_lines import runs_of
from pipeline.outputs.tables import Row, Tables
from pipeline.outputs.thresholds import fitted_texts
from transforms.journal.open_journal import BATCH


class UnknownId(ValueError):
    """No query, video or pair of this id; the message says what an id looks like and names the nearest."""


def explain(output: str, wanted: str) -> str:
    """The story of a query id, a video id (or its address or file name), or a pair ``QUERY_ID:VIDEO_ID``.

    Raises:
        NotAnOutput: ``output`` is not finished, or a file of it cannot be read.
        UnknownId: it knows no such thing.
    """
    manifest = read_manifest(output)
    tables = manifest.tables(output)
    for query_id, video_id in _as_pairs(wanted):
        judgements, rejections = (
            [row for row in tables.matching(table, "query_id", query_id) if row["video_id"] == video_id]
            for table in ("judgements", "rejections")
        )
        if judgements:
            return page(_pair(manifest, tables, judgements[0]))
        if rejections:
            return page(_rejected(wanted, rejections))
    if queries := tables.matching("queries", "query_id", wanted):
        return page(_query(manifest, tables, queries[0]))
    if story := negative_query(tables, wanted):
        return page(story)
    named = files_named(tables, wanted)
    if story := _file(tables, wanted) or (_file(tables, named[0]) if len(named) == 1 else None):
        return page(story)
    if named:
        raise UnknownId(f"{len(named)} files are named {wanted!r}; give one whole: {', '.join(named)}")
    for column in ("query_id", "video_id"):
        if rejections := tables.matching("rejections", column, wanted):
            return page(_rejected(wanted, rejections))
    raise UnknownId(_not_found(output, tables, wanted))


def _file(tables: Tables, wanted: str) -> Lines | None:
    """The story of a video, or of a file that failed, by its id or address; None where there is none."""
    for column in ("video_id", "uri"):
        if videos := tables.matching("videos", column, wanted):
            return _video(tables, videos[0])
        if failures := tables.matching("failures", column, wanted):
            return _failed(failures)
    return None


def _as_pairs(wanted: str) -> Iterator[tuple[str, str]]:
    """Every way to read ``wanted`` as a pair; ids may hold colons themselves."""
    parts = wanted.split(":")
    for at in range(1, len(parts)):
        yield ":".join(parts[:at]), ":".join(parts[at:])


def _not_found(output: str, tables: Tables, wanted: str) -> str:
    ids = [
        f"{query_id}:{row['video_id']}"
        for query_id, _ in _as_pairs(wanted)
        for row in tables.matching("judgements", "query_id", query_id)
    ]
    if not ids:
        ids = [row["query_id"] for row in tables.rows("queries", ["query_id"])]
        ids += [row["video_id"] for row in tables.rows("videos", ["video_id"])]
    close = get_close_matches(wanted, ids, n=3, cutoff=0.5)
    hint = f"; the nearest: {', '.join(close)}" if close else ""
    return f"{output} knows no {wanted!r}: give a query id, a video id, a file's name or a pair QUERY_ID:VIDEO_ID{hint}"


def _query(manifest: Manifest, tables: Tables, query: Row) -> Lines:
    query_id, video_id = query["query_id"], query["video_id"]
    yield f"QUERY {query_id}"
    yield from (*wrapped(query["text"]), "")
    if query["source"] == "human":
        yield from field("written by", f"people; its video is {video_id}")
    else:
        yield from how_written(manifest, query)
    yield from heading("What became of it")
    yield from _fate(manifest, query)
    judgements = tables.matching("judgements", "query_id", query_id)
    yield from how_found(manifest, tables, query)
    if judgements:
        yield from heading("Judgements")
        yield from _judgement_table(judgements)
        yield f"  one in full: explain {query_id}:{judgements[0]['video_id']}"
        yield from how_hard(judgements)
    yield from _accounts(tables, "query_id", query_id)
    yield from _example(tables, query_id)
    yield from the_group_of_its_video(tables, query_id)
    for video in tables.matching("videos", "video_id", video_id):
        yield from _evidence(video)
        if query["source"] == "teacher":
            yield from _prompt("The prompt that wrote it", writing_prompt(manifest, query, video))
            yield from _reply(query["reply"])


def _fate(manifest: Manifest, query: Row) -> Lines:
    """Verdict, reason and the thresholds of the stage that decided."""
    if query["verdict"] == "kept":
        yield from field("kept", "passed the text filters, the first stage and curation")
        for stage in ("mine", "curate"):
            yield from _rules(manifest, stage)
        return
    detail = f" ({query['detail']})" if query["detail"] else ""
    if query["verdict"] == "deferred":
        until = "once its replies are read" if query["reason"] == BATCH else "with more budget"
        yield from field("deferred", f"by {query['stage']}: {query['reason']}; the same run goes on {until}")
        return
    yield from field("dropped", f"by {query['stage']}: {query['reason']}{detail}")
    yield from _rules(manifest, query["stage"])


def _rules(manifest: Manifest, stage: str) -> Lines:
    section: Mapping[str, Any] = manifest.recipe.get(stage, {})
    rules = section.get("filters", {}) if stage == "synthesize" else section
    named = [f"{key} {value}" for key, value in _flat(rules) if isinstance(value, int | float)]
    named += fitted_texts(manifest, (stage,))
    if named:
        yield from field(f"{stage} rules", ", ".join(named))


def _flat(rules: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in rules.items():
        if key in ("ambiguity", "margin") and value:
            where = f" of {value['run']}" if value.get("run") else ""
            yield from ((f"{key} {name}{where}", each) for name, each in value.items())
        else:
            yield key, value


def _judgement_table(judgements: Sequence[Row], key: str = "video_id") -> Lines:
    width = max(len(row[key]) for row in judgements)
    yield f"  {'rank':>4}  {key.removesuffix('_id'):<{width}}  says  {'margin':>8}  {'p_yes':>6}  stratum"
    for row in sorted(judgements, key=lambda row: (not row["is_positive"], row["rank"] or 10**9, row[key])):
        rank = row["rank"] if row["rank"] is not None else "-"
        stratum = row["stratum"].replace("_", " ")
        why = f"{stratum}, in the example" if row["kept"] else f"{stratum}, left out"
        if not row["kept"] and row["reason"] != stratum:
            why += f": {row['reason']}"
        yield f"  {rank:>4}  {row[key]:<{width}}  {row['label']:<4}  {_margin(row)}  {why}"


def _margin(row: Row) -> str:
    return f"{row['delta']:>+8.2f}  {row['p_yes']:>6.3f}" if row["delta"] is not None else f"{'none':>8}  {'none':>6}"


def _example(tables: Tables, query_id: str) -> Lines:
    for split in ("train", "validation"):
        for shard in tables.shards("ranking", split):
            for row in Tables(tables.output, (shard,)).matching("ranking", "query_id", query_id):
                yield from heading("The example")
                positives = sum(candidate["label"] for candidate in row["candidates"])
                counted = f"{positives} positives" if positives > 1 else "one positive"
                yield f"  {shard.path}: {counted} and {len(row['candidates']) - positives} negatives in {split}"
                for candidate in row["candidates"]:
                    stratum = candidate["stratum"].replace("_", " ")
                    yield f"  label {candidate['label']}  {stratum:<18}  {candidate['video_id']}"


def _pair(manifest: Manifest, tables: Tables, row: Row) -> Lines:
    yield f"PAIR {row['query_id']}:{row['video_id']}"
    query = next(iter(tables.matching("queries", "query_id", row["query_id"])), None)
    text = query["text"] if query else ""
    yield from wrapped(text or "(the query is not in the queries table)")
    yield from heading("Judgement")
    yield f"  {engine_line(row['teacher'])} says {row['label']}"
    interval = f", between {row['delta_lo']:+.2f} and {row['delta_hi']:+.2f}" if row["delta"] is not None else ""
    censored = f"; p({row['censored']}) was not reported" if row["censored"] else ""
    yield from field("margin", f"{_margin(row).split()[0]}{interval}, from {row['confidence_source']}{censored}")
    if row["label_mass"] is not None:
        yield from field("label mass", f"{row['label_mass']:.4f} of the probability is on yes or no")
    if row["delta_prior"] is not None:
        yield from field("prior", f"{row['delta_prior']:+.2f} without a rationale")
    found = f"rank {row['rank']}, score {row['score']:.4g}" if row["rank"] else "did not retrieve it"
    yield from field("first stage", found)
    if len(runs_of(manifest.recipe)) > 1:
        for place in row["runs"]:
            yield from field(place["run"], standing(place))
    yield from field("stratum", row["stratum"].replace("_", " "))
    yield from field("kept", "in its query's example") if row["kept"] else field("left out", row["reason"])
    yield from _rules(manifest, "curate")
    without = "(none: judged no by the prior alone)" if row["confidence_source"] == "prior" else "(none)"
    yield from field("rationale", row["rationale"] or without)
    yield from cut_lines(row)
    yield from how_the_panel_judged(row)
    yield from what_the_label_rests_on(tables, row)
    for video in tables.matching("videos", "video_id", row["video_id"]):
        yield from _evidence(video)
        if query:
            yield from _prompt("The prompt that judged it", judging_prompt(manifest, row, text, video))
    yield from _reply(row["reply"])


def _video(tables: Tables, video: Row) -> Lines:
    video_id, media, metadata = video["video_id"], video["media"], video["metadata"]
    yield f"VIDEO {video_id}"
    yield from field("address", video["uri"])
    container = media["container"] or "container unknown"
    yield from field("file", f"{media['size_bytes']:,} bytes, SHA-256 {media['sha256'][:16]}…, {container}")
    picture = f"{media['video_codec']} {media['width']}x{media['height']}" if media["video_codec"] else "no pictures"
    sound = media["audio_codec"] or "no sound"
    yield from field("streams", f"{picture}, {sound}, {_seconds(media['duration_s'])}")
    yield from field("split", video["split"] + (f", as its event {metadata['event']!r}" if metadata["event"] else ""))
    yield from field("frames", f"{len(video['frames'] or [])} in the shards")
    for use in video["engines"]:
        yield from field(use["part"], engine_line(use["engine"]))
    for warning in video["warnings"]:
        yield from field("warning", f"{warning['part']}: {warning['reason']}, {warning['message']}")
    yield from _evidence(video)
    yield from _accounts(tables, "video_id", video_id)
    queries = tables.matching("queries", "video_id", video_id)
    if queries:
        yield from heading("Queries written for it")
        for row in sorted(queries, key=lambda row: (row["variant"] or "", row["query_id"])):
            verdict = "kept" if row["verdict"] == "kept" else f"{row['verdict']} by {row['stage']}: {row['reason']}"
            yield f"  {row['query_id']}  {verdict}"
            yield from wrapped(row["text"], " " * 6)
    yield from look_alikes_of_video(tables, video_id)
    judged = [row for row in tables.matching("judgements", "video_id", video_id) if not row["is_positive"]]
    if judged:
        yield from heading("Judged as a candidate of other videos' queries")
        yield from _judgement_table(judged, "query_id")


def _failed(failures: Sequence[Row]) -> Lines:
    yield f"FAILED {failures[0]['uri'] or failures[0]['video_id']}"
    for row in failures:
        yield from wrapped(f"{row['stage']}/{row['step']}: {row['error_class']}: {row['message']}")


def _rejected(wanted: str, rejections: Sequence[Row]) -> Lines:
    yield f"REJECTED {wanted}"
    for row in rejections:
        yield from wrapped(f"{row['stage']}/{row['step']}: {row['reason']}: {row['detail'] or 'no detail'}")


def _accounts(tables: Tables, column: str, value: str) -> Lines:
    rejections, failures = tables.matching("rejections", column, value), tables.matching("failures", column, value)
    if rejections or failures:
        yield from heading("Rejections and failures")
    other = "video_id" if column == "query_id" else "query_id"
    for kind, rows in (("reason", rejections), ("error_class", failures)):
        for row in rows:
            what = row["detail"] if kind == "reason" else row["message"]
            yield from wrapped(
                f"{row['stage']}/{row['step']}: {row[kind]}, {what or 'no detail'} {row[other]}".rstrip()
            )


def _evidence(video: Row) -> Lines:
    yield from heading(f"Evidence of {video['video_id']}")
    engines = {use["part"]: use["engine"]["name"] for use in video["engines"]}
    metadata = video["metadata"]
    yield from wrapped(f"caption ({engines.get('caption', 'none')}): {video['caption'] or '(none)'}")
    yield f"  asr ({engines.get('asr', 'none')}): {'' if video['asr'] else '(none)'}".rstrip()
    for row in video["asr"]:
        yield from wrapped(
            f"{row['start_s']:>7.1f}-{row['end_s']:.1f} s  {row['confidence']:.2f}  {row['text']}", "  ", " " * 24
        )
    yield f"  ocr ({engines.get('ocr', 'none')}): {'' if video['ocr'] else '(none)'}".rstrip()
    for row in video["ocr"]:
        yield from wrapped(
            f"{row['time_s']:>7.1f}-{row['last_s']:.1f} s  {row['confidence']:.2f}  {row['text']}", "  ", " " * 24
        )
    for name, value in metadata.items():
        if value:
            yield from wrapped(f"{name}: {value}")


def _prompt(title: str, rendered: Rendered) -> Lines:
    yield from heading(title)
    if rendered.prompt is None:
        yield from wrapped(f"cannot be rendered: {rendered.problem}")
        return
    same = (
        "word for word what was sent: its hash is the row's" if rendered.same else "NOT what was sent: its hash differs"
    )
    yield f"  (rendered again from the manifest's prompt text and the evidence; {same})"
    for name, part in (("system", rendered.prompt.system), ("user", rendered.prompt.user)):
        yield f"  [{name}]"
        for line in part.splitlines():
            yield from wrapped(line)


def _reply(reply: str) -> Lines:
    yield from heading("The reply")
    for line in reply.splitlines() or ["(none)"]:
        yield from wrapped(line)


def _seconds(value: float | None) -> str:
    return "length unknown" if value is None else f"{value:.1f} s"
