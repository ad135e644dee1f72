"""One stage of training, from an output folder to a model: the whole of it on one page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from accelerate import PartialState
from torch.utils.tensorboard import SummaryWriter
from transformers import set_seed
from transformers.integrations import TensorBoardCallback, get_reporting_integration_callbacks
from transformers.trainer_callback import TrainerCallback

from trainer.config.config import ConfigError, RunConfig, Stage, TrainConfig
from trainer.config.errors import TrainingError
from trainer.config.retriever import RetrieverConfig
from trainer.data.shards import Shards
from trainer.model.models import copy_processor, load_model, load_processor, merge_adapter, needs_merge
from trainer.perception import PerceptionStage
from trainer.ranking import RankingStage
from trainer.retriever.stage import RetrieverStage
from trainer.run_folder import RunFolder
from trainer.stage import StageTrainer, training_arguments


def train(stage: Stage, config: RunConfig, data: str, output: str, report_to: Sequence[str] = ()) -> RunFolder:
    """Train one stage on the output folder ``data``; or go on with a run that was cut short, to the same weights.

    To be called by every process of a distributed run; ``output`` must be a folder that all of them see. Metrics go to
    the run folder, and to the trackers of ``report_to`` as well, by Trainer's names of them.

    Raises:
        TrainingError: data, model, prompt, run folder or a tracker cannot be used.
    """
    run = RunFolder(output)
    trackers = _trackers(report_to)
    shards = Shards(data)
    run.check(stage, config, shards)
    if run.is_finished:
        return run
    work = _work(stage, config, shards)
    # These also start the process group, so they come before anything that ranks do in turn.
    whole = stage == "retriever"
    arguments = training_arguments(config, config.stage(stage), run.checkpoints, remote=shards.is_remote, whole=whole)
    is_main = arguments.process_index == 0
    if is_main:
        run.begin(stage, config, shards, work.plan, work.left_out)
        if isinstance(config, TrainConfig) and needs_merge(config) and not run.merged.is_dir():
            merge_adapter(config, run.merged)
        run.drop_partial()
    PartialState().wait_for_everyone()
    set_seed(config.seed)
    model = load_model(config, run.merged) if isinstance(config, TrainConfig) else work.model()
    trainer = work.trainer(model=model, arguments=arguments, metrics=run.metrics)
    last = run.last_checkpoint()
    if is_main:
        writer = SummaryWriter(str(run.tensorboard), purge_step=run.step_of(last) + 1)
        trainer.add_callback(TensorBoardCallback(writer))
        for tracker in trackers:
            trainer.add_callback(tracker)
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    _finish(trainer, config, run)
    return run


def _trackers(names: Sequence[str]) -> list[TrainerCallback]:
    """What tells other programs how a run goes. TensorBoard is told by the run folder anyway."""
    try:
        kinds = get_reporting_integration_callbacks([name for name in names if name != "tensorboard"])
        return [kind() for kind in kinds]
    except (ValueError, RuntimeError, ImportError) as error:  # no such tracker, or it is not installed
        raise ConfigError(f"--report-to: {error}") from error


def _work(stage: Stage, config: RunConfig, shards: Shards) -> Any:
    """The stage's plan and what carries it out."""
    if isinstance(config, RetrieverConfig) and stage == "retriever":
        return RetrieverStage(config, shards)
    if isinstance(config, TrainConfig) and stage != "retriever":
        return (RankingStage if stage == "ranking" else PerceptionStage)(config, shards, load_processor(config))
    raise TrainingError(f"the configuration of a {type(config).__name__} has no stage {stage!r}")


def _finish(trainer: StageTrainer, config: RunConfig, run: RunFolder) -> None:
    """Measure the last weights, and write them."""
    unfinished = run.model.with_suffix(".tmp")
    trainer.save_model(str(unfinished))
    trainer.accelerator.wait_for_everyone()
    if trainer.is_world_process_zero():
        copy_processor(config, unfinished)
        unfinished.rename(run.model)
