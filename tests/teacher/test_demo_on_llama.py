"""A part of the sample corpus from end to end, with llama.cpp's server and a random model as the teacher."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import pyarrow.dataset as ds
import pytest

from pipeline.config import load_recipe
from pipeline.engines import check_engines, find_engines
from pipeline.outputs.manifest import read_manifest
from prompts.write_queries import reply_schema
from runners.cli.main import main
from tests.support.llama_server import VERDICT_GRAMMAR, LlamaServer, serving

CLIPS = ("flood_valdoro_1", "launch_ostara_1")
SHOWN = {"metadata": ("metadata",), "all": ("caption", "metadata")}
# Recognising speech and text takes longer than all the rest, and is tested elsewhere. The thresholds suit a judge that
# is never sure.
SETTINGS = (
    "extract.asr=null",
    "extract.ocr=null",
    "extract.frames.max_frames=4",
    "emit.frames.frames=2",
    "synthesize.variants=[metadata, all]",
    "synthesize.queries_per_variant=1",
    "mine.ambiguity=null",
    "curate.alpha1=0",
    "curate.alpha2=5",
)


@dataclass(frozen=True)
class Ended:
    """A run that ended, its settings, and how many tokens the server had counted by then."""

    output: Path
    settings: list[str]
    server: LlamaServer
    counted: Counter[str]

    def rows(self, table):
        return ds.dataset(self.output / table, format="parquet").to_table().to_pylist()


@pytest.fixture(scope="module")
def ended(random_llm, samples, tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    output = folder / "set"
    lines = [json.loads(line) for line in (samples / "manifest.jsonl").read_text().splitlines()]
    chosen = [{**line, "uri": str(samples / line["uri"])} for line in lines if line["video_id"] in CLIPS]
    (folder / "list.jsonl").write_text("".join(json.dumps(line) + "\n" for line in chosen))
    (folder / "qrels.trec").write_text("".join("of-{video_id} 0 {video_id} 1\n".format(**line) for line in chosen))
    (folder / "queries.tsv").write_text("".join("of-{video_id}\t{title}\n".format(**line) for line in chosen))
    command = ["run", "demo", "--input", str(folder / "list.jsonl"), "--output", str(output), "--workers", "1"]
    command += ["--queries", str(folder / "queries.tsv"), "--qrels", str(folder / "qrels.trec")]
    with serving(random_llm.gguf) as server:
        writer = {"engine": "openai", "model": "tiny", "base_url": server.base_url, "temperature": 1.0}
        judge = {**writer, "top_logprobs": len(random_llm.tokenizer), "extra_body": {"grammar": VERDICT_GRAMMAR}}
        teachers = {"synthesize": writer, "judge": judge}
        settings = [*SETTINGS, *(f"{stage}.teacher={json.dumps(options)}" for stage, options in teachers.items())]
        assert main([*command, *(word for setting in settings for word in ("--set", setting))]) == 0
        yield Ended(output, settings, server, tokens(server))


def tokens(server):
    """What the server has counted, by the names of this project: it counts apart what it found read."""
    counted = server.metrics()
    cached = counted["prompt_tokens_cached_total"]
    read, written = counted["prompt_tokens_total"], counted["tokens_predicted_total"]
    return Counter(input_tokens=read + cached, output_tokens=written)


def test_the_output_is_sound(ended):
    assert main(["verify", str(ended.output)]) == 0
    assert len(ended.rows("videos")) == len(CLIPS)


def test_every_query_written_is_valid_by_the_schema(ended):
    written = [query for query in ended.rows("queries") if query["source"] == "teacher"]
    for query in written:
        jsonschema.validate(json.loads(query["reply"]), reply_schema(SHOWN[query["variant"]], 1))

    assert len(written) >= len(CLIPS)
    assert {query["variant"] for query in written} == SHOWN.keys()


def test_people_s_queries_are_judged_with_a_margin(ended):
    judgements = ended.rows("judgements")

    assert len(judgements) >= len(CLIPS)
    assert {judgement["confidence_source"] for judgement in judgements} == {"logprobs"}
    assert all(judgement["rationale"] and judgement["delta"] is not None for judgement in judgements)


def test_the_manifest_s_tokens_are_those_that_the_server_counted(ended):
    work = read_manifest(str(ended.output)).work
    used = Counter({name: sum(step.get(name, 0) for step in work.values()) for name in ended.counted})
    check_engines(find_engines(load_recipe("demo", ended.settings)))  # as the run did before it began
    looked = tokens(ended.server) - ended.counted

    assert used + looked == ended.counted
    assert used["input_tokens"] > 20 * looked["input_tokens"]
