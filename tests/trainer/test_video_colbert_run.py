"""Training of a Video-ColBERT from an output folder: with which gradient, and going on after a kill."""

import json
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.support.tiny_retriever import first_gradient, tiny_base, tiny_config, write_first_gradients
from tests.support.tiny_training import tiny_output, tiny_tables, write_config, write_output
from tests.support.trainer_children import exit_code_of_training, run_ranks
from trainer.config.retriever import load_retriever_config
from trainer.data.plan import read_plan
from trainer.export import export_model
from trainer.retriever.encoder import load_encoder
from trainer.retriever.folder import RetrieverError, content_hash
from trainer.run import train


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_base(tmp_path_factory.mktemp("model") / "base")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny_output(tmp_path_factory.mktemp("outputs") / "data")


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """As much as it takes for two steps an epoch."""
    return tiny_output(tmp_path_factory.mktemp("outputs") / "few", videos=4, queries=4)


def metrics(run):
    return [json.loads(line) for line in run.metrics.read_text().splitlines()]


def weights(run):
    return load_file(run.model / "model.safetensors")


def same_weights(a, b):
    return a.keys() == b.keys() and all(torch.equal(tensor, b[name]) for name, tensor in a.items())


def assert_same_gradient(found, expected):
    assert found.keys() == expected.keys()
    largest = max(gradient.abs().max().item() for gradient in expected.values())
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5 * largest, rtol=1e-4)


@pytest.fixture(scope="module")
def whole(data, base, tmp_path_factory):
    """The first step of one process that takes a whole batch at once."""
    return first_gradient(tiny_config(base), data, tmp_path_factory.mktemp("whole"))


def test_parts_of_a_batch_have_the_gradient_of_the_whole_among_all_its_videos(data, base, whole, tmp_path):
    in_parts = first_gradient(tiny_config(base, "retriever.micro_batch=1"), data, tmp_path)

    assert in_parts["loss"] == pytest.approx(whole["loss"], rel=1e-5)
    assert_same_gradient(in_parts["gradient"], whole["gradient"])


def test_two_ranks_have_the_gradient_of_one_process_among_the_videos_of_both(data, base, whole, tmp_path):
    run_ranks(2, write_first_gradients, base, data, tmp_path)

    for case in ("at once", "in parts"):
        first, second = (torch.load(tmp_path / f"{case}-{rank}.pt") for rank in (0, 1))
        for rank in (first, second):
            assert rank["loss"] == pytest.approx(whole["loss"], rel=1e-5)
            assert_same_gradient(rank["gradient"], whole["gradient"])
            assert rank["validation"] == pytest.approx(whole["validation"])


def test_a_query_is_told_from_all_others_after_some_steps(base, tmp_path):
    data = tiny_output(tmp_path / "data", queries=4, videos=4)
    settings = ["retriever.epochs=50", "retriever.log_steps=25", "retriever.learning_rate=3e-3"]
    config = tiny_config(base, *settings, "retriever.backbone_learning_rate=3e-3", "retriever.negatives=3")

    run = train("retriever", config, str(data), str(tmp_path / "run"))

    last = [line for line in metrics(run) if "validation_r_1" in line][-1]
    assert last == {"validation_ndcg_10": 1.0, "validation_r_1": 1.0, "step": 50}


@pytest.fixture(scope="module")
def steady(few, base, tmp_path_factory):
    """A run that nobody interrupts, with dropout and two parts a batch, and its configuration."""
    config = tiny_config(
        base,
        "loader_workers=1",
        "retriever.temporal.dropout=0.2",
        "retriever.epochs=6",
        "retriever.batch=2",
        "retriever.micro_batch=1",
        "retriever.save_steps=4",
        "retriever.validate_steps=6",
    )
    return config, train("retriever", config, str(few), str(tmp_path_factory.mktemp("steady") / "run"))


@pytest.mark.parametrize(
    "moment",
    [
        ("log", 7, True),  # in the middle of an epoch, three steps after a checkpoint
        ("_save_rng_state", 4, False),  # while the first checkpoint is written, whose weights are there already
    ],
)
def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(moment, steady, few, tmp_path):
    config, uninterrupted = steady
    output = tmp_path / "run"
    command = ["train", "retriever", str(write_config(tmp_path / "config.yaml", config)), "--data", str(few)]
    assert exit_code_of_training(moment, [*command, "--output", str(output)]) == -signal.SIGKILL
    assert not (output / "model").exists()

    run = train("retriever", config, str(few), str(output))

    assert same_weights(weights(run), weights(uninterrupted))
    assert lines_of_steps(run) == lines_of_steps(uninterrupted)


def lines_of_steps(run):
    """The metrics without what a clock told, and without the last line, which sums up the time of a whole process."""
    lines = [line for line in metrics(run) if "train_runtime" not in line]
    return [{name: value for name, value in line.items() if name != "waited_s"} for line in lines]


def test_a_run_folder_says_what_was_trained_on_what(steady, base):
    _, run = steady

    record = json.loads((run.root / "run.json").read_text())
    lines = metrics(run)
    shape = json.loads((run.model / "config.json").read_text())["video_colbert"]

    assert (record["stage"], record["base"]) == ("retriever", str(base))
    assert record["items"] == len(read_plan(run.plan)) == 24
    assert {"loss_frames", "loss_video", "scale", "bias", "known", "waited_s"} <= lines[0].keys()
    assert lines[0]["bias"] == -10.0
    assert [line["step"] for line in lines if "validation_r_1" in line] == [6, 12]
    assert (shape["base"], shape["levels"], shape["frames"]) == (str(base), ["frames", "video"], 4)


def test_the_model_of_a_run_and_its_export_give_the_same_vectors(steady, tmp_path):
    _, run = steady
    frames = [torch.randint(0, 255, (32, 32, 3), dtype=torch.uint8).numpy() for _ in range(3)]

    exported = export_model(run.root, tmp_path / "exported")

    assert content_hash(exported) == content_hash(run.root)
    assert not (exported / "training_args.bin").exists()
    for level, same in zip(*(load_encoder(f, "cpu").video(frames) for f in (run.root, exported)), strict=True):
        assert (level == same).all()
    card = (exported / "README.md").read_text()
    assert "# A Video-ColBERT, trained from" in card
    assert "the sum over frames and video of MeanMaxSim" in card
    assert "validation_r_1" in card


def test_training_goes_on_from_an_earlier_run_with_the_same_shape_alone(steady, few, tmp_path):
    config, run = steady
    written = str(write_config(tmp_path / "config.yaml", config))
    further = load_retriever_config(written, [f"model={json.dumps(str(run.root))}"])

    again = train("retriever", further, str(few), str(tmp_path / "run"))

    first, second = (json.loads((one.root / "run.json").read_text()) for one in (run, again))
    assert first["base"] == second["base"]
    assert metrics(again)[0]["bias"] == pytest.approx(weights(run)["bias"].item())
    other = load_retriever_config(written, [f"model={json.dumps(str(run.root))}", "retriever.temporal.heads=8"])
    with pytest.raises(RetrieverError, match=r"was trained with other values: give the same \(heads 4\)"):
        train("retriever", other, str(few), str(tmp_path / "other"))


@pytest.mark.parametrize(("level", "other"), [("frames", "video"), ("video", "frames")])
def test_a_level_of_weight_0_is_left_out_of_the_model(level, other, data, base, tmp_path):
    config = tiny_config(base, f"retriever.levels.{other}=0", "retriever.epochs=1")

    run = train("retriever", config, str(data), str(tmp_path / "run"))

    assert f"loss_{level}" in metrics(run)[0]
    assert f"loss_{other}" not in metrics(run)[0]
    assert any(name.startswith("temporal.") for name in weights(run)) == (level == "video")
    assert len(load_encoder(run.root, "cpu").video([torch.zeros(32, 32, 3, dtype=torch.uint8).numpy()])) == 1


def test_groups_whose_videos_have_no_frames_are_left_out_and_counted(base, tmp_path):
    rows = tiny_tables()
    rows["videos"]["part"][0] |= {"frames": [], "frame_times_s": []}
    data = write_output(tmp_path / "data", rows)

    run = train(
        "retriever", tiny_config(base, "retriever.epochs=1", "missing_videos=1"), str(data), str(tmp_path / "r")
    )

    assert json.loads((run.root / "run.json").read_text())["left_out"] == 8  # v0 is in four groups of each split


@pytest.mark.parametrize("preset", ["video-colbert", "video-colbert-siglip"])
def test_a_preset_names_a_revision_and_reads_back_as_itself(preset, tmp_path):
    config = load_retriever_config(preset)

    assert len(config.revision) == 40
    assert config.retriever.frames == 12
    assert load_retriever_config(str(write_config(tmp_path / "again.yaml", config))) == config


@pytest.mark.parametrize(
    ("config", "settings", "says"),
    [
        ("paper", (), "preset 'paper' is not known; give video-colbert or video-colbert-siglip, or a file.yaml"),
        ("video-colbert", ("retriever.levels={frames: 0, video: 0}",), "one of levels must have a weight above 0"),
        ("video-colbert", ("retriever.negativs=3",), "retriever.negativs is not known; did you mean 'negatives'?"),
        ("video-colbert", ("retriever.micro_batch=5",), "micro_batch must divide batch, got 5 and 64"),
        ("video-colbert", ("model=data", "revision=null"), "processor of 'data' cannot be loaded"),
    ],
)
def test_the_command_names_the_fix_in_one_line(config, settings, says, data, monkeypatch, capsys):
    from runners.cli.main import main

    monkeypatch.chdir(data.parent)
    options = [f"--set={setting}" for setting in settings]

    code = main(["train", "retriever", config, "--data", "data", "--output", "run", *options])

    assert code == 2
    assert says in capsys.readouterr().err
    assert not Path("run").exists()
