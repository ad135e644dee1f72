"""What both stages share: the order of the plan, data loading, validation, metrics and whole checkpoints."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch.utils.data import DataLoader, Dataset, Subset, get_worker_info
from transformers import ProgressCallback, Trainer, TrainingArguments

from trainer.config.config import ConfigError, RunConfig, StepsConfig, TrainConfig
from trainer.config.errors import TrainingError

COMPLETE = "complete"
"""A file that a checkpoint has when all of it, of all ranks, is written."""

_IN_WORKERS = ("trainer.perception", "trainer.ranking", "trainer.retriever.stage")


class _Bar(ProgressCallback):
    """A progress bar alone, with the loss at its end: the metrics have a file."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if state.is_world_process_zero and self.training_bar is not None and logs and "loss" in logs:
            self.training_bar.set_postfix(loss=f"{logs['loss']:.3f}")


@dataclass(frozen=True)
class _Collate:
    """``collate``, which has the worker that calls it end with the trainer.

    PyTorch's own guard looks at the parent's id, and a worker that a fork server started has that for its parent, which
    waits for its workers.
    """

    collate: Callable[[Sequence[Any]], dict[str, Any]]

    def __call__(self, items: Sequence[Any]) -> dict[str, Any]:
        _follow_trainer()
        return self.collate(items)


@cache
def _follow_trainer() -> None:
    trainer = multiprocessing.parent_process()
    if trainer is not None and get_worker_info() is not None:
        threading.Thread(target=_end_with, args=(trainer,), daemon=True).start()


def _end_with(process: BaseProcess) -> None:
    process.join()
    os._exit(1)


class StageTrainer(Trainer):
    """A Trainer that goes through its items once, in order: the plan holds all epochs.

    ``items`` are what a worker prepares, ``validation`` likewise; ``collate`` makes a batch of them.
    """

    control: Any

    def __init__(
        self,
        *,
        model: Any,
        arguments: TrainingArguments,
        items: Dataset[Any],
        validation: Dataset[Any],
        collate: Callable[[Sequence[Any]], dict[str, Any]],
        metrics: Path,
    ) -> None:
        super().__init__(
            model=model, args=arguments, train_dataset=items, eval_dataset=validation, data_collator=_Collate(collate)
        )
        self.remove_callback(ProgressCallback)
        self.add_callback(_Bar())
        self._metrics = metrics
        self._noted: dict[str, list[torch.Tensor]] = {}
        self._waited_s = 0.0

    def measure(self, batch: dict[str, Any]) -> list[dict[str, Any]]:
        """What validation measures, of each item of a batch."""
        raise NotImplementedError

    def summarise(self, measured: list[dict[str, Any]]) -> dict[str, float]:
        """The validation's metrics, from what was measured on all ranks."""
        raise NotImplementedError

    def note(self, values: dict[str, torch.Tensor]) -> None:
        """Remember values of a micro-batch until the next line of metrics, which shows their means."""
        for name, value in values.items():
            self._noted.setdefault(name, []).append(value)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Measure the validation items, each on one rank; nothing where there are none."""
        if not len(self.eval_dataset):
            return {}
        size, world = len(self.eval_dataset), self.args.world_size
        mine = range(self.args.process_index, size, world)
        # Ranks that share a model's weights must call it equally often: one that has less measures something again.
        again = [0] * (-(-size // world) - len(mine))
        loader = DataLoader(
            Subset(self.eval_dataset, [*mine, *again]),
            batch_size=self.args.per_device_train_batch_size,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            multiprocessing_context=self.args.dataloader_multiprocessing_context,
        )
        self.model.eval()
        measured = []
        with torch.no_grad(), _one_line():
            for batch in loader:
                measured += self.measure(self._prepare_inputs(batch))
        self.model.train()
        measured = measured[: len(mine)]
        everywhere = gather_object(measured) if world > 1 else measured
        found = {f"validation_{name}": value for name, value in self.summarise(everywhere).items()}
        self.log(found)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
        return found

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device) -> Any:
        """Take the batches of a step, and count the time that was spent waiting for them."""
        start = time.perf_counter()
        with _one_line():
            samples = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._waited_s += time.perf_counter() - start
        return samples

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Write a line of metrics; with the loss come the means, over all ranks, of what was noted since the last."""
        if "loss" in logs:
            for name, values in self._noted.items():
                mean = torch.stack(values).mean().to(self.args.device)
                logs[name] = float(self.accelerator.gather(mean).mean())
            self._noted.clear()
            logs["waited_s"] = round(self._waited_s, 3)
            self._waited_s = 0.0
        super().log(logs, start_time)
        if self.is_world_process_zero():
            line = {name: value for name, value in self.state.log_history[-1].items() if name != "epoch"}
            with self._metrics.open("a", encoding="utf-8") as lines:  # to Trainer the whole plan is one epoch
                lines.write(json.dumps(line) + "\n")

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()  # each rank writes its own random state
        if self.is_world_process_zero():
            (Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}" / COMPLETE).touch()


@contextmanager
def _one_line() -> Iterator[None]:
    """Free the message of a loader's error from the trace that its worker process put around it."""
    try:
        yield
    except TrainingError as error:
        raise type(error)(str(error).rstrip().rpartition(f".{type(error).__name__}: ")[2]) from error


def training_arguments(
    config: RunConfig, stage: StepsConfig, folder: Path, *, remote: bool, whole: bool = False
) -> TrainingArguments:
    """The Trainer's arguments for a stage whose checkpoints go to ``folder``.

    Devices are given their micro-batches one by one; or, ``whole``, their share of a batch, to be divided by the stage.

    Raises:
        ConfigError: the batch cannot be dealt out evenly to the devices.
    """
    checkpointing = isinstance(config, TrainConfig) and config.activation_checkpointing
    # Clients of object stores do not survive a fork; and the server imports once what each worker would.
    context = "forkserver" if remote and config.loader_workers else None
    multiprocessing.set_forkserver_preload(list(_IN_WORKERS))
    arguments = TrainingArguments(
        output_dir=str(folder),
        run_name=folder.parent.name,
        per_device_train_batch_size=stage.micro_batch,
        num_train_epochs=1,
        learning_rate=stage.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=stage.warmup,
        adam_beta2=stage.adam_beta2,
        weight_decay=stage.weight_decay,
        max_grad_norm=stage.max_grad_norm,
        optim="adamw_torch",
        bf16=config.precision == "bf16",
        activation_checkpointing=checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False} if checkpointing else None,
        logging_steps=stage.log_steps,
        logging_first_step=True,
        save_steps=stage.save_steps,
        save_total_limit=2,  # the newest may be cut short by a kill while it is written
        eval_strategy="steps",
        eval_steps=stage.validate_steps,
        report_to=[],  # trainer/run.py adds them, to the first process alone
        remove_unused_columns=False,
        train_sampling_strategy="sequential",
        dataloader_drop_last=True,
        dataloader_num_workers=config.loader_workers,
        dataloader_pin_memory=torch.cuda.is_available(),
        dataloader_multiprocessing_context=context,
        ddp_find_unused_parameters=False,
        use_cpu=not torch.cuda.is_available(),
        seed=config.seed,
    )
    if arguments.n_gpu > 1:
        raise ConfigError(
            "several GPUs are visible to one process: start with torchrun --nproc-per-node, a process each"
        )
    at_once = stage.micro_batch * arguments.world_size
    if stage.batch % at_once:
        raise ConfigError(
            f"batch {stage.batch} cannot be dealt out to {arguments.world_size} devices, {stage.micro_batch} at a time"
        )
    if whole:
        arguments.per_device_train_batch_size = stage.batch // arguments.world_size
    else:
        arguments.gradient_accumulation_steps = stage.batch // at_once
    return arguments
