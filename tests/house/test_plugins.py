"""Engines of other distributions: the example package, installed as far as an interpreter can tell."""

import json
from contextlib import closing
from dataclasses import replace

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.util import assert_that, equal_to

from pipeline.config import RecipeError, load_recipe
from pipeline.engines import find_engines
from pipeline.outputs.diff.given import Given
from pipeline.run import given_of
from pipeline.stage import LedgerBuilder
from pipeline.synthesize import Synthesize
from runners.cli.main import main
from runners.job import prepare
from runners.request import Request
from schemas.query import Query
from schemas.video import AsrSegment, EngineStamp, Evidence, MediaFacts, Video
from tests.support.plugins_again import forget_plugins
from tests.support.scripted_teacher import ScriptedEngine
from tests.support.tiny_output import write_tiny
from transforms.engines.registry import find_engine, known_engines
from transforms.journal.deciding import step_key
from transforms.journal.journal import Journal
from transforms.protocols.engine import EngineError, loaded
from transforms.protocols.frames import Frame
from transforms.protocols.teacher import TeacherReply
from transforms.synthesize.own_filters import FilterFailed, first_objection

NAMED = {"engine": "brightness", "dark_below": 100.0}


def test_a_recipe_names_an_engine_of_another_distribution_with_its_options(example):
    example("0.1.0")

    captioner = find_engines(load_recipe("demo", ["extract.caption={engine: brightness, dark_below: 100}"])).caption

    frames = [Frame(float(at), np.full((4, 4, 3), grey, np.uint8)) for at, grey in enumerate((20, 99, 200))]
    assert loaded(captioner).caption(frames).text == "At 0 s it is dark; at 1 s it is dark; at 2 s it is bright."


def test_its_stamp_and_so_every_key_changes_with_the_version_of_its_distribution(example):
    keys = []
    for version in ("0.1.0", "0.2.0"):
        example(version)
        stamp = find_engine("caption", NAMED).stamp()
        assert (stamp.name, stamp.version) == ("brightness", f"hardquery-brightness {version}")
        keys.append(step_key("caption", "v", stamp, {}, {}).digest)

    assert keys[0] != keys[1]


def test_it_is_listed_with_where_it_comes_from_and_a_wrong_name_finds_it(example, capsys):
    example("0.1.0")

    assert main(["engines", "caption"]) == 0
    assert "brightness             hardquery-brightness 0.1.0; ready (needs numpy)" in capsys.readouterr().out
    with pytest.raises(EngineError, match="did you mean 'brightness'"):
        find_engine("caption", {"engine": "brightnes"})
    with pytest.raises(EngineError, match="no option 'dark_belo'; did you mean 'dark_below'"):
        find_engine("caption", {"engine": "brightness", "dark_belo": 1})


def test_its_options_are_kept_or_left_behind_as_those_of_any_engine(example):
    example("0.1.0")
    notes: list[str] = []

    recipe = load_recipe("rankvideo", ["extract.caption.engine=brightness"], notes.append)

    assert recipe.extract.caption == {"engine": "brightness"}
    assert any("brightness in place of openai" in note for note in notes)


def test_what_cannot_be_used_is_listed_with_the_reason_and_stops_nobody_else(install):
    engine = "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass E:\n"
    lacking = f"{engine}    requires = ('no_such_module',)\n    extra = ''\n    load = stamp = None\n"
    install("hardquery-lacking", "1", {"asr.lacking": "hardquery_lacking:E"}, lacking)
    install("hardquery-broken", "1", {"asr.broken": "hardquery_broken:E"}, "1 / 0")
    install("hardquery-empty", "1", {"asr.empty": "hardquery_empty:E"}, "E = 7")
    install("hardquery-own", "1", {"asr.whisper": "hardquery_own:E", "ocr.one": "hardquery_own:E"}, lacking)
    install("hardquery-one", "1", {"ocr.one": "hardquery_one:E", "asrr.x": "hardquery_one:E"}, lacking)

    told = {(one.name, one.origin): one.trouble for one in known_engines()}

    assert "needs the package 'no_such_module'" in told["lacking", "hardquery-lacking 1"]
    assert "cannot be imported: ZeroDivisionError" in told["broken", "hardquery-broken 1"]
    assert "is no engine" in told["empty", "hardquery-empty 1"]
    assert "an engine 'whisper' of its own" in told["whisper", "hardquery-own 1"]
    assert "hardquery-one 1 and hardquery-own 1 both have it" in told["one", "hardquery-one 1"]
    assert "did you mean 'asr'" in told["x", "hardquery-one 1"]
    assert told["pocketsphinx", "hardquery"] == ""
    for name in ("lacking", "broken", "empty"):
        with pytest.raises(RecipeError, match=f"extract.asr.*hardquery-{name} 1"):
            find_engines(load_recipe("demo", [f"extract.asr={{engine: {name}}}"]))


def test_a_stamp_without_its_distribution_is_refused_for_results_would_outlive_their_version(install):
    source = """
from dataclasses import dataclass
from schemas.video import EngineStamp
@dataclass(frozen=True)
class Careless:
    requires = ()
    extra = ""
    def load(self): return self
    def stamp(self): return EngineStamp("careless", "1", "", "f")
"""
    install("hardquery-careless", "1", {"caption.careless": "hardquery_careless:Careless"}, source)

    with pytest.raises(EngineError, match="its stamp must be made by"):
        find_engine("caption", {"engine": "careless"})


FILTER = {"adverts": {"engine": "without_words", "words": ["Sponsor"]}}


def written(text: str) -> Query:
    stamp = EngineStamp("w", "1", "", "0")
    return Query("q-1", "v", text, "teacher", "specific", "asr", "It is said.", ("asr",), stamp)


def test_a_filter_of_queries_drops_under_the_name_that_the_recipe_gives_it(example):
    example("0.1.0")
    filters = find_engines(load_recipe("demo", [f"synthesize.own_filters={json.dumps(FILTER)}"])).filters
    video = Video("v", "v", MediaFacts("0" * 64, 1), Evidence())

    said = {text: first_objection(written(text), video, filters) for text in ("who is the sponsor?", "sponsoring it")}

    assert said == {"who is the sponsor?": ("adverts", "it says 'sponsor?'"), "sponsoring it": None}


def test_its_version_decides_an_output_and_is_a_cause_of_what_differs(example, tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"a")
    where = {"input": str(tmp_path / "a.mp4"), "output": str(tmp_path / "out"), "cache": str(tmp_path / "cache")}
    request, given, stamps = Request(recipe="demo", **where), [], []
    for version, settings in (("0.1.0", ()), ("0.1.0", (FILTER,)), ("0.2.0", (FILTER,))):
        example(version)
        job = prepare(
            replace(request, settings=tuple(f"synthesize.own_filters={json.dumps(each)}" for each in settings)),
            look_only=True,
        ).job
        given.append(given_of(job))
        stamps.append(job.engines.stamps())
    a, b = (replace(write_tiny(tmp_path / name), engines=used) for name, used in zip("ab", stamps[1:], strict=True))

    assert len(set(given)) == 3
    [cause] = Given(a, b).own_filters()
    assert str(cause) == "filters.adverts version: hardquery-brightness 0.1.0 -> hardquery-brightness 0.2.0"


def test_a_run_counts_what_it_drops_as_a_step_of_its_own(example, tmp_path):
    example("0.1.0")
    speech = (AsrSegment(0, 4, "the sponsor opened the flooded bridge", 0.9),)
    video = Video("v", "v", MediaFacts("0" * 64, 1), Evidence(asr=speech), "pack", 1)
    recipe = load_recipe("demo", [f"synthesize.own_filters={json.dumps(FILTER)}", "synthesize.variants=[asr]"])
    texts = ("which sponsor opened a bridge that was flooded", "who opened a bridge that was flooded")
    drafts = [{"query": text, "rationale": "It is said.", "query_type": "specific", "modalities": ["asr"],
               "evidence": ["asr: opened the flooded bridge"],} for text in texts]  # fmt: skip
    writer = ScriptedEngine(lambda request: TeacherReply(json.dumps({"queries": drafts})))
    engines, ledger = replace(find_engines(recipe), writer=writer), LedgerBuilder()
    with closing(Journal(str(tmp_path / "cache"))) as journal, beam.Pipeline("FnApiRunner") as pipeline:
        inputs = tuple(
            pipeline | name >> beam.Create(items)
            for name, items in (("Videos", [video]), ("People's", []), ("Splits", [("v", "train")]))
        )
        found = inputs | Synthesize(recipe.synthesize, engines, journal, recipe.templates(), 0, ledger)
        losses = tuple(ledger.losses) | beam.Flatten() | beam.Map(lambda one: (one.step, one.reason, one.detail))

        assert_that(found["queries"] | beam.Map(lambda query: query.text), equal_to([texts[1]]), "kept")
        assert_that(losses, equal_to([("own filters", "adverts", "it says 'sponsor'")]), "lost")
    assert ("synthesize", "own filters") in [tuple(step)[:2] for step in ledger.steps]


def test_a_filter_that_breaks_is_named_with_its_query(install):
    source = """
from dataclasses import dataclass
from transforms.protocols.engine import stamp_of
@dataclass(frozen=True)
class Odd:
    says: str = ""
    requires = ()
    extra = ""
    def load(self): return self
    def stamp(self): return stamp_of(self, "odd", "")
    def objection(self, query, evidence): return True if self.says else 1 / 0
"""
    install("hardquery-odd", "3", {"query_filter.odd": "hardquery_odd:Odd"}, source)
    video = Video("v", "v", MediaFacts("0" * 64, 1), Evidence())
    for options, message in (({}, "ZeroDivisionError: division by zero"), ({"says": "x"}, "a text or None, got True")):
        own = {"mine": find_engine("query_filter", {"engine": "odd", **options})}
        with pytest.raises(FilterFailed, match=rf"own_filters.mine \(hardquery-odd 3\), query q-1: .*{message}"):
            first_objection(written("who"), video, own)


def test_without_plug_ins_all_engines_are_of_this_project(capsys):
    forget_plugins()

    assert main(["engines", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {one["modality"] for one in listed} == {"decode", "asr", "ocr", "caption", "teacher", "embed", "first_stage"}
    assert main(["engines", "query_filter"]) == 0
    assert "no query_filter is installed" in capsys.readouterr().out
    with pytest.raises(EngineError, match="'gone' is not known: only plug-ins have some, and none is installed"):
        find_engine("query_filter", {"engine": "gone"})
    assert main(["engines", "asrr"]) == 2
    assert "did you mean 'asr'" in capsys.readouterr().err
