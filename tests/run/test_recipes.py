"""Recipes as files: extending one, every key with its sentence, a schema for editors, and one of one's own."""

import jsonschema
import pytest
import yaml

from pipeline.config import RecipeError, load_recipe, recipe_names
from pipeline.engines import find_engines
from pipeline.recipes.files import recipe_values
from pipeline.recipes.prices import prices
from pipeline.recipes.reference import editor_schema, full_text, keys
from runners.cli.main import main


@pytest.fixture
def written(tmp_path):
    def write(text: str, name: str = "mine.yaml") -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


def test_a_recipe_extends_another_key_by_key(written):
    recipe = load_recipe(written("extends: demo\nname: mine\ncurate: {alpha1: -4}\nextract: {frames: {max_frames: 8}}"))
    demo = load_recipe("demo")

    assert (recipe.name, recipe.curate.alpha1, recipe.extract.frames.max_frames) == ("mine", -4, 8)
    assert (recipe.description, recipe.mine, recipe.extract.frames.sample_fps) == (demo.description, demo.mine, 1.0)


def test_another_engine_or_other_first_stages_take_the_place_of_the_whole_section(written):
    path = written(
        "extends: rankvideo\nextract: {asr: {engine: pocketsphinx}}\n"
        "mine: {first_stages: {b: {engine: bm25}}, ambiguity: {run: b}}"
    )
    values = recipe_values(path)

    assert values["extract"]["asr"] == {"engine": "pocketsphinx"}
    assert values["mine"]["first_stages"] == {"b": {"engine": "bm25"}}
    assert (
        recipe_values(written("extends: rankvideo\njudge: {teacher: {model: m}}"))["judge"]["teacher"]["model"] == "m"
    )


def test_a_setting_that_names_another_engine_leaves_the_options_of_the_one_before_behind_wherever_it_stands(written):
    path = written(
        "extends: demo\njudge: {panel: {second: {engine: openai, model: m, base_url: u}}}\n"
        "synthesize: {negative_queries: {verifier: {engine: openai, model: m, base_url: u}}}"
    )
    notes: list[str] = []

    recipe = load_recipe(
        path,
        ["judge.panel.second.engine=rules", "synthesize.negative_queries.verifier.engine=rules"],
        notes.append,
    )

    assert recipe.judge.panel == {"second": {"engine": "rules"}}
    assert recipe.synthesize.negative_queries.verifier == {"engine": "rules"}
    assert [note.partition(":")[0] for note in notes] == ["judge.panel.second", "synthesize.negative_queries.verifier"]


def test_a_file_is_extended_from_where_it_lies_and_not_in_a_circle(written):
    written("extends: demo\nseed: 3", "base.yaml")
    assert load_recipe(written("extends: base.yaml\nname: mine")).seed == 3

    written("extends: mine.yaml", "base.yaml")
    with pytest.raises(RecipeError, match="extends itself"):
        load_recipe(written("extends: base.yaml"))
    with pytest.raises(RecipeError, match="extends names one recipe"):
        load_recipe(written("extends: [demo]"))


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_names_engines_that_are_there_and_a_judge_that_can_be_trusted(name):
    engines = find_engines(load_recipe(name))

    assert {"decode", "writer", "judge"} <= set(engines.stamps())


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_in_full_has_every_key_and_is_yaml_of_its_values(name):
    recipe = load_recipe(name)
    told = yaml.safe_load(full_text(recipe))

    assert list(told) == [key.path for key in keys()]
    assert told["curate.alpha1"] == recipe.curate.alpha1
    assert told["judge.teacher"] == recipe.judge.teacher


def test_every_key_has_a_sentence_and_numbers_with_a_dimension_have_a_unit():
    assert all(key.about for key in keys())
    assert {key.unit for key in keys() if key.path.endswith(("_s", "_per_media_s"))} <= {"s", "CPU s", "CPU s/s"}


@pytest.mark.parametrize("name", recipe_names())
def test_editors_accept_every_recipe_and_refuse_what_is_refused(name):
    schema = editor_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    values = recipe_values(name)

    assert list(validator.iter_errors(values)) == []
    assert list(validator.iter_errors({"extends": name, "curate": {"alpha1": -4}})) == []
    assert list(validator.iter_errors({**values, "curat": {}}))
    assert list(validator.iter_errors({**values, "extract": {**values["extract"], "asr": {"engine": "wisper"}}}))


def test_a_hosted_model_has_the_price_of_the_dated_file_unless_the_recipe_or_another_host_has_its_own():
    listed = prices()["gpt-4.1-mini"]

    def price(*settings: str) -> float:
        return load_recipe("api", settings).costs.judge.input_price

    assert price() == listed["input_price"] > 0
    assert price("costs.judge.input_price=7") == 7
    assert price("judge.teacher.base_url=http://localhost:8000/v1") == 0
    assert price("judge.teacher.model=other") == 0


@pytest.mark.parametrize("base", ["api", "one-gpu", "rankvideo", "demo"])
@pytest.mark.parametrize(
    "given", [[], ["--languages", "en,de", "--base-url", "http://localhost:9/v1", "--model", "a: b"]]
)
def test_init_writes_a_recipe_that_can_be_read_and_says_what_to_do_next(base, given, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if base == "demo":
        given = given[:2]
    assert main(["init", "--yes", "--extends", base, "--input", "my videos", *given]) == 0

    recipe = load_recipe("recipe.yaml")
    assert recipe.synthesize.filters.languages == (("en", "de") if given else ("en",))
    if given[2:]:
        assert (recipe.judge.teacher["model"], recipe.extract.caption["base_url"]) == ("a: b", "http://localhost:9/v1")
    assert "hardquery plan recipe.yaml --input 'my videos' --output out/recipe --limit 5" in capsys.readouterr().out
    assert main(["init", "--yes"]) == 2
    assert "'recipe.yaml' is there already" in capsys.readouterr().err


def test_the_recipes_command_prints_all_keys_and_the_schema(capsys):
    assert main(["recipes", "demo", "--full"]) == 0
    assert "curate.alpha1: -6.0  # [nats]" in capsys.readouterr().out
    assert main(["recipes", "--schema"]) == 0
    assert '"$defs"' in capsys.readouterr().out
    assert main(["recipes", "--full"]) == 2
