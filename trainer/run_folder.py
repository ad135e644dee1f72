"""The folder of a training run: what it was given, its plan, metrics, checkpoints and, at the end, its model."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from schemas.fingerprint import fingerprint
from trainer.config.config import RunConfig, Stage
from trainer.config.errors import TrainingError
from trainer.data.plan import Plan, read_plan, write_plan
from trainer.data.shards import Shards
from trainer.model.models import Source
from trainer.stage import COMPLETE

_WRITTEN_BEFORE_THE_RECORD = {"checkpoints", "plan.parquet", "config.yaml", "run.json.tmp"}


class RunError(TrainingError):
    """A run folder that cannot be used for what was asked; one line that names the fix."""


class RunFolder:
    """Paths and records of one run.

    ::

        run.json          stage, hash of the configuration, data and the hash of its manifest, items, code revision
        config.yaml       every value of the configuration
        plan.parquet      every item of the run, in the order of training
        metrics.jsonl     a line every few steps, and one a validation
        tensorboard/      the same
        checkpoints/      the last two, to go on from
        merged/           the base model, where an earlier stage's adapter was merged into it
        model/            the result, written last
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.checkpoints = self.root / "checkpoints"
        self.merged = self.root / "merged"
        self.metrics = self.root / "metrics.jsonl"
        self.model = self.root / "model"
        self.plan = self.root / "plan.parquet"
        self.tensorboard = self.root / "tensorboard"
        self._record = self.root / "run.json"

    def check(self, stage: Stage, config: RunConfig, shards: Shards) -> None:
        """Make sure that the folder is free, or that what was begun in it is this run.

        Raises:
            RunError: it is another run's, or something else's.
            DataError: the data has no manifest.
        """
        identity = _identity(stage, config, shards)
        if self._record.is_file():
            recorded = json.loads(self._record.read_text("utf-8"))
            if changed := [name for name, value in identity.items() if recorded[name] != value]:
                raise RunError(
                    f"{self.root} is a run of another {' and '.join(changed)}; give another folder, or remove this one"
                )
        elif self.root.is_dir() and not {path.name for path in self.root.iterdir()} <= _WRITTEN_BEFORE_THE_RECORD:
            raise RunError(f"{self.root} is not empty and not a training run; give another folder")

    def begin(self, stage: Stage, config: RunConfig, shards: Shards, plan: Plan, left_out: int) -> None:
        """Write down what the run is, unless that was done before.

        ``left_out`` is the number of examples whose videos have no frames.

        Raises:
            RunError: the plan that was written down is another.
        """
        if self._record.is_file():
            if read_plan(self.plan) != plan:
                raise RunError(f"{self.plan} is not the plan of this run; remove {self.root}, or give another folder")
            return
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        write_plan(self.plan, plan)
        (self.root / "config.yaml").write_text(yaml.safe_dump(config.as_dict(), sort_keys=False, width=120), "utf-8")
        record = _identity(stage, config, shards) | {
            "data": shards.root,
            "model": config.model,
            "base": _base_of(config.model),
            "items": len(plan),
            "left_out": left_out,
            "code_revision": code_revision(),
            "versions": {name: version(name) for name in ("hardquery", "torch", "transformers", "peft", "accelerate")},
        }
        unfinished = self.root / "run.json.tmp"
        unfinished.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
        unfinished.rename(self._record)

    @property
    def is_finished(self) -> bool:
        """Whether the model is there."""
        return self.model.is_dir()

    def last_checkpoint(self) -> Path | None:
        """The newest whole checkpoint."""
        whole = [path for path in self.checkpoints.glob("checkpoint-*") if (path / COMPLETE).is_file()]
        return max(whole, key=self.step_of, default=None)

    def drop_partial(self) -> None:
        """Remove what a kill cut short: unfinished checkpoints, and metrics of steps that will be done again."""
        for path in self.checkpoints.glob("checkpoint-*"):
            if not (path / COMPLETE).is_file():
                shutil.rmtree(path)
        self._forget_metrics_after(self.step_of(self.last_checkpoint()))

    @staticmethod
    def step_of(checkpoint: Path | None) -> int:
        """The step after which a checkpoint was written; 0 before the first."""
        return int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0

    def _forget_metrics_after(self, step: int) -> None:
        if not self.metrics.is_file():
            return
        lines = self.metrics.read_text("utf-8").splitlines()
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
        self.metrics.write_text("".join(f"{line}\n" for line in kept), "utf-8")


def _identity(stage: Stage, config: RunConfig, shards: Shards) -> dict[str, Any]:
    """What makes two runs the same one."""
    return {
        "stage": stage,
        "config": fingerprint(config.as_dict()),
        "manifest_sha256": shards.manifest_sha256,
    }


def _base_of(model: str) -> str:
    """What the first of the stages that led to a model started from."""
    record = Path(model) / "run.json"
    if record.is_file():
        base: str = json.loads(record.read_text("utf-8"))["base"]
        return base
    return Source.of(model).base


def code_revision() -> str:
    """The commit that this code is of, with "+" where files were changed since; "" outside of a checkout."""
    here = Path(__file__).parent
    try:
        _git(here, "ls-files", "--error-unmatch", Path(__file__).name)  # or it is installed within another checkout
        commit = _git(here, "rev-parse", "HEAD")
        return commit + ("+" if _git(here, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()
