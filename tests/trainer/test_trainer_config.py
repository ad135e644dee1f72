from pathlib import Path

import pytest

from trainer.config.config import ConfigError, load_config, preset_names

EXAMPLE = str(Path(__file__).parents[2] / "docs" / "fsdp2.yaml")


def test_the_preset_paper_has_the_values_of_the_paper():
    config = load_config("paper")

    losses = config.ranking.losses
    assert (losses.pairwise.temperature, losses.teacher.temperature, losses.pointwise.temperature) == (10, 5, 1)
    assert (losses.pairwise.weight, losses.teacher.weight, losses.pointwise.weight) == (1, 5, 0.5)
    assert (losses.pointwise.positive_target, losses.pointwise.negative_target) == (1.0, 0.1)
    assert (losses.pointwise.positive_weight, losses.pointwise.negative_weight) == (1.0, 0.5)
    assert (config.ranking.negatives, config.ranking.epochs, config.ranking.frames) == (2, 2, 24)
    assert (config.perception.batch, config.perception.epochs, config.perception.frames) == (16, 1, 32)
    assert (config.lora.rank, config.lora.alpha, config.lora.dropout) == (16, 32, 0.05)


def test_the_preset_release_differs_in_negatives_and_in_the_pointwise_weight():
    paper, release = load_config("paper"), load_config("release")

    assert (release.ranking.negatives, release.ranking.losses.pointwise.weight) == (1, 1.0)
    assert release.ranking.losses.teacher == paper.ranking.losses.teacher
    assert release.perception == paper.perception


def test_a_file_changes_a_preset_and_a_setting_changes_both(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("preset: paper\nranking: {negatives: 3, learning_rate: 1e-4}\n")

    config = load_config(str(path), ["ranking.negatives=4", "lora=null"])

    assert (config.ranking.negatives, config.ranking.learning_rate, config.lora) == (4, 1e-4, None)
    assert config.ranking.losses == load_config("paper").ranking.losses


@pytest.mark.parametrize("preset", preset_names())
def test_a_resolved_configuration_reads_back_as_itself(preset, tmp_path):
    import yaml

    config = load_config(preset)
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(config.as_dict()))

    assert load_config(str(tmp_path / "again.yaml")) == config


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("ranking.negativs=2", "key ranking.negativs is not known; did you mean 'negatives'?"),
        ("lora.rank=0", "lora.rank: expected `int` >= 1, got 0"),
        ("ranking.losses.pairwise.wait=1", "key ranking.losses.pairwise.wait is not known; did you mean 'weight'?"),
        ("ranking.negatives=0", "ranking.negatives: expected `int` >= 1"),
        ("ranking.frames=3", "even"),
        ("perception.micro_batch=5", "micro_batch must divide batch"),
        ("ranking.losses.pairwise.temperature=0", "ranking.losses.pairwise.temperature: expected `float` > 0"),
        ("precision=fp8", "precision"),
        ("ranking.prompt.user=relevant?", "{query}"),
        ("ranking", "expected key=value"),
        ("model=[", "not YAML"),
    ],
)
def test_a_value_that_makes_no_sense_is_named_in_one_line(setting, says):
    with pytest.raises(ConfigError) as caught:
        load_config("paper", [setting])

    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_presets_that_name_each_other_are_a_circle(tmp_path):
    one, other = tmp_path / "one.yaml", tmp_path / "other.yaml"
    one.write_text(f"preset: {other}\n")
    other.write_text(f"preset: {one}\n")

    with pytest.raises(ConfigError, match=r"goes round in a circle: .*one\.yaml > .*other\.yaml > .*one\.yaml"):
        load_config(str(one))
    one.write_text(f"preset: {one}\n")
    with pytest.raises(ConfigError, match="goes round in a circle"):
        load_config(str(one))


def test_an_unknown_preset_is_told_from_a_file_that_cannot_be_read():
    with pytest.raises(ConfigError, match=r"preset 'papr' is not known; give paper or release, or a file\.yaml"):
        load_config("papr")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config("nowhere.yaml")


def test_the_example_for_fsdp2_is_what_accelerate_takes(monkeypatch):
    launch = pytest.importorskip("accelerate.commands.launch")
    from accelerate import FullyShardedDataParallelPlugin
    from accelerate.utils.launch import prepare_multi_gpu_env

    given = launch.launch_command_parser().parse_args(["--config_file", EXAMPLE, "-m", "runners", "train"])
    arguments = launch._validate_launch_command(given)[0]
    for name, value in prepare_multi_gpu_env(arguments).items():
        monkeypatch.setenv(name, value)
    plugin = FullyShardedDataParallelPlugin()

    assert (arguments.use_fsdp, arguments.num_processes, arguments.mixed_precision) == (True, 8, "bf16")
    assert (plugin.fsdp_version, plugin.reshard_after_forward, plugin.state_dict_type.name) == (
        2,
        True,
        "FULL_STATE_DICT",
    )
