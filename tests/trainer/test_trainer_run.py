import json
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.support.first_steps import CASES, STAGES, first_steps, write_first_steps
from tests.support.tiny_training import tiny_config, tiny_model, tiny_output, tiny_tables, write_config, write_output
from tests.support.trainer_children import exit_code_of_training, run_ranks
from trainer.config.config import ConfigError
from trainer.data.plan import Plan, PlannedItem, read_plan
from trainer.data.shards import Shards
from trainer.ranking import RankingTrainer
from trainer.run import train
from trainer.run_folder import RunError, RunFolder, code_revision
from trainer.stage import training_arguments


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    rows = tiny_tables(videos=4, queries=4)
    for table in ("perception", "ranking"):
        rows[table]["validation"] = rows[table]["validation"][:3]  # which two ranks cannot share evenly
    return write_output(tmp_path_factory.mktemp("outputs") / "data", rows)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model") / "base")


def metrics(run):
    return [json.loads(line) for line in run.metrics.read_text().splitlines()]


def weights(run):
    return {path.name: load_file(path) for path in sorted(run.model.glob("*.safetensors"))}


def same_weights(a, b):
    return a.keys() == b.keys() and all(
        torch.equal(tensor, b[file][name]) for file, tensors in a.items() for name, tensor in tensors.items()
    )


@pytest.fixture(scope="module")
def alone(data, model, tmp_path_factory):
    """What one process does, by stage, with whole batches at a time."""
    folder = tmp_path_factory.mktemp("alone")
    return {
        stage: first_steps(
            stage, tiny_config(model, f"{stage}.micro_batch=4", f"{stage}.epochs=2"), data, folder / stage
        )
        for stage in STAGES
    }


def assert_same_gradient(found, expected, tolerance=1e-5):
    assert found.keys() == expected.keys()
    largest = max(gradient.abs().max().item() for gradient in expected.values())
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=tolerance * largest, rtol=10 * tolerance)


@pytest.mark.parametrize("stage", STAGES)
def test_four_accumulated_micro_batches_have_the_gradient_of_one_batch_of_four(stage, data, model, alone, tmp_path):
    in_turn = first_steps(stage, tiny_config(model, f"{stage}.epochs=2"), data, tmp_path)

    assert [len(items) for items in in_turn["items"]] == [1] * 8
    assert [len(items) for items in alone[stage]["items"]] == [4] * 2
    assert_same_gradient(in_turn["gradient"], alone[stage]["gradient"])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_bound_on_the_pairs_in_memory_changes_no_gradient(precision, data, model, tmp_path):
    settings = ["ranking.micro_batch=2", f"precision={precision}", "ranking.epochs=1"]

    at_once = first_steps("ranking", tiny_config(model, *settings), data, tmp_path / "one")
    in_parts = first_steps("ranking", tiny_config(model, *settings, "ranking.pairs_at_once=4"), data, tmp_path / "two")

    assert_same_gradient(in_parts["gradient"], at_once["gradient"], 1e-5 if precision == "fp32" else 0.02)
    assert in_parts["validation"] == at_once["validation"]


def test_both_passes_over_a_part_draw_the_same_dropout(data, model, tmp_path):
    lora = "lora={rank: 4, alpha: 8, dropout: 0.5}"
    config = tiny_config(model, lora, "ranking.micro_batch=2", "ranking.pairs_at_once=4", "ranking.epochs=1")
    seen = []
    score = RankingTrainer._seeded_scores

    def noting(self, model, inputs, seed):
        found = score(self, model, inputs, seed)
        seen.append((seed, found.detach()))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RankingTrainer, "_seeded_scores", noting)
        first_steps("ranking", config, data, tmp_path)

    again = {}
    for seed, scores in seen:
        assert torch.equal(again.setdefault(seed, scores), scores)
    assert len(seen) == 2 * len(again)


def test_two_ranks_train_on_the_groups_of_one_process_and_have_its_gradient(data, model, alone, tmp_path):
    run_ranks(2, write_first_steps, model, data, tmp_path)

    for case, (stage, _) in CASES.items():
        first, second = (torch.load(tmp_path / f"{case}-{rank}.pt") for rank in (0, 1))
        assert first["steps"] == second["steps"] == alone[stage]["steps"] == 2
        # Two ranks, two micro-batches of one item each: the same four items a step, every item on one rank.
        by_step = [set(first["items"][i : i + 2] + second["items"][i : i + 2]) for i in range(0, 4, 2)]
        assert by_step == [{(item,) for item in items} for items in alone[stage]["items"]]
        assert all(len(items) == 4 for items in by_step)
        assert first["validated"] == second["validated"]  # or ranks that share weights would wait for each other
        for rank in (first, second):
            assert_same_gradient(rank["gradient"], alone[stage]["gradient"])
            assert rank["validation"] == pytest.approx(alone[stage]["validation"], rel=1e-5)


def test_four_groups_are_learned_by_heart(model, tmp_path):
    four = tiny_output(tmp_path / "four", videos=4, queries=4)
    settings = ["ranking.epochs=20", "ranking.micro_batch=4", "ranking.log_steps=10", "ranking.learning_rate=2e-3"]
    config = tiny_config(model, *settings, "ranking.negatives=3")

    run = train("ranking", config, str(four), str(tmp_path / "run"))

    last = [line for line in metrics(run) if "validation_ndcg_10" in line][-1]
    assert last == {"validation_ndcg_10": 1.0, "step": 20}


MOMENTS = {
    "in the middle of an epoch, three steps after a checkpoint": (("log", 7, True), "fork"),
    "while the first checkpoint is written, whose weights are there already": (
        ("_save_rng_state", 4, False),
        "forkserver",
    ),
}


@pytest.fixture(scope="module")
def steady(data, model, tmp_path_factory):
    """A run that nobody interrupts, with dropout, two items a step, and its configuration."""
    config = tiny_config(
        model,
        "lora={rank: 4, alpha: 8, dropout: 0.1}",
        "activation_checkpointing=true",
        "loader_workers=1",
        "ranking.epochs=6",
        "ranking.batch=2",
        "ranking.save_steps=4",
        "ranking.validate_steps=6",
    )
    return config, train("ranking", config, str(data), str(tmp_path_factory.mktemp("steady") / "run"))


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(moment, steady, data, tmp_path):
    config, uninterrupted = steady
    output = tmp_path / "run"
    command = ["train", "ranking", str(write_config(tmp_path / "config.yaml", config)), "--data", str(data)]
    when, workers = MOMENTS[moment]
    assert exit_code_of_training(when, [*command, "--output", str(output)], workers) == -signal.SIGKILL
    assert (output / "run.json").exists()
    assert not (output / "model").exists()

    run = train("ranking", config, str(data), str(output))

    assert same_weights(weights(run), weights(uninterrupted))
    assert lines_of_steps(run) == lines_of_steps(uninterrupted)


def lines_of_steps(run):
    """The metrics without what a clock told, and without the last line, which sums up the time of a whole process."""
    lines = [line for line in metrics(run) if "train_runtime" not in line]
    return [{name: value for name, value in line.items() if name != "waited_s"} for line in lines]


def test_a_run_folder_says_what_was_trained_on_what(steady, data):
    _, run = steady

    record = json.loads((run.root / "run.json").read_text())
    plan = read_plan(run.plan)
    lines = metrics(run)

    assert record["stage"] == "ranking"
    assert len(record["manifest_sha256"]) == 64
    assert record["items"] == len(plan) == 24
    assert {item.epoch for item in plan} == set(range(6))
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 13))
    assert [line["step"] for line in lines if "validation_ndcg_10" in line] == [6, 12]
    assert {"loss_pairwise", "loss_teacher", "loss_pointwise", "teacher_known", "waited_s"} <= lines[0].keys()
    assert list(run.tensorboard.iterdir())
    assert {"adapter_config.json", "tokenizer.json", "chat_template.jinja"} <= {p.name for p in run.model.iterdir()}


def test_groups_whose_videos_have_no_frames_are_left_out_and_counted_and_validation_may_be_empty(model, tmp_path):
    rows = tiny_tables()
    rows["videos"]["part"][0] |= {"frames": [], "frame_times_s": []}
    rows["ranking"]["validation"] = []
    data = write_output(tmp_path / "data", rows)
    config = tiny_config(model, "ranking.epochs=1", "ranking.micro_batch=4", "missing_videos=1")

    run = train("ranking", config, str(data), str(tmp_path / "run"))

    assert json.loads((run.root / "run.json").read_text())["left_out"] == 4  # v0 is in four groups
    assert {item.key for item in read_plan(run.plan)} == {"q1", "q2", "q3", "q4"}
    assert not any("validation_ndcg_10" in line for line in metrics(run))


def test_a_finished_run_is_left_as_it_is(steady, data):
    config, run = steady
    before = weights(run), run.metrics.read_text()

    train("ranking", config, str(data), str(run.root))

    assert same_weights(before[0], weights(run))
    assert run.metrics.read_text() == before[1]


def test_the_folder_of_another_run_is_refused(data, model, tmp_path):
    shards, config = Shards(str(data)), tiny_config(model)
    run = RunFolder(tmp_path / "run")
    run.check("ranking", config, shards)
    run.begin("ranking", config, shards, Plan.of([]), 0)
    run.check("ranking", config, shards)  # the same command again
    run.begin("ranking", config, shards, Plan.of([]), 0)

    with pytest.raises(RunError, match="a run of another stage and config"):
        run.check("perception", tiny_config(model, "seed=1"), shards)
    with pytest.raises(RunError, match="not the plan of this run"):
        run.begin("ranking", config, shards, Plan.of([PlannedItem(0, 0, "q0", ("v0", "v1"))]), 0)
    with pytest.raises(RunError, match="not empty and not a training run"):
        RunFolder(tmp_path).check("ranking", config, shards)


def test_the_checkout_around_an_installed_trainer_is_not_taken_for_its_own(tmp_path, monkeypatch):
    git = ["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "theirs"], check=True)
    monkeypatch.setattr("trainer.run_folder.__file__", str(tmp_path / "run_folder.py"))

    assert code_revision() == ""


def test_a_run_that_was_killed_before_its_record_was_written_begins_again(data, model, tmp_path):
    run = RunFolder(tmp_path)
    run.begin("ranking", tiny_config(model), Shards(str(data)), Plan.of([]), 0)
    (tmp_path / "run.json").rename(tmp_path / "run.json.tmp")

    run.check("ranking", tiny_config(model, "seed=1"), Shards(str(data)))


def test_a_batch_that_cannot_be_dealt_out_is_refused(data, model, tmp_path):
    config = tiny_config(model, "ranking.batch=6", "ranking.micro_batch=3")

    assert training_arguments(config, config.ranking, tmp_path, remote=False).gradient_accumulation_steps == 2
    with pytest.raises(ConfigError, match="micro_batch must divide batch"):
        tiny_config(model, "ranking.batch=6", "ranking.micro_batch=4")


def test_a_damaged_frame_is_told_in_one_line_from_a_worker_too(model, tmp_path, capsys):
    from runners.cli.main import main

    rows = tiny_tables()
    rows["videos"]["part"][0]["frames"][1]["bytes"] = b"\xff\xd8 not a picture"
    data = write_output(tmp_path / "data", rows)
    config = write_config(tmp_path / "config.yaml", tiny_config(model, "loader_workers=1", "ranking.epochs=1"))

    code = main(["train", "ranking", str(config), "--data", str(data), "--output", str(tmp_path / "run")])

    assert code == 2
    said = capsys.readouterr().err
    assert "hardquery: video 'v0' in " in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("config", "where", "settings", "says"),
    [
        ("papr", "data", (), "preset 'papr' is not known"),
        ("paper", "nowhere", (), "nowhere is not a finished hardquery output"),
        ("paper", "data", ("model=data",), "model 'data' cannot be loaded"),
    ],
)
def test_the_command_names_the_fix_in_one_line(config, where, settings, says, data, monkeypatch, capsys):
    from runners.cli.main import main

    monkeypatch.chdir(data.parent)
    options = [f"--set={setting}" for setting in settings]

    code = main(["train", "ranking", config, "--data", where, "--output", "run", *options])

    assert code == 2
    assert says in capsys.readouterr().err
    assert not Path("run").exists()
