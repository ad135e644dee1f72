import json

import pytest
from transformers.integrations import integration_utils
from transformers.trainer_callback import TrainerCallback

from runners.cli.main import main
from tests.support.tiny_training import tiny_config, tiny_model, tiny_output
from trainer.run import train


def test_a_tracker_is_told_what_the_run_folder_is(tmp_path, monkeypatch):
    told = []

    class Tracker(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            told.append(args.run_name)

        def on_log(self, args, state, control, logs, **kwargs):
            told.append(dict(logs))

    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "a_tracker", Tracker)
    config = tiny_config(tiny_model(tmp_path / "base"), "perception.epochs=1")

    run = train("perception", config, str(tiny_output(tmp_path / "data")), str(tmp_path / "night"), ["a_tracker"])

    name, *logs = told
    assert name == "night"
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    assert [{key: log[key] for key in log if key != "epoch"} for log in logs] == [
        {key: line[key] for key in line if key != "step"} for line in lines
    ]
    assert any("loss" in log for log in logs)


@pytest.mark.parametrize(
    ("tracker", "says"),
    [
        ("wanbd", "--report-to: wanbd is not supported, only"),
        pytest.param(
            "wandb",
            "pip install wandb",
            marks=pytest.mark.skipif(integration_utils.is_wandb_available(), reason="wandb is installed"),
        ),
    ],
)
def test_a_tracker_that_is_not_there_is_one_line_before_any_work(tracker, says, tmp_path, capsys):
    output = tmp_path / "run"

    code = main(["train", "ranking", "paper", "--data", str(tmp_path), "--output", str(output), "--report-to", tracker])

    said = capsys.readouterr().err.strip()
    assert code == 2
    assert says in said
    assert "\n" not in said
    assert not output.exists()
