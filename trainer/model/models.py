"""Models and processors: loading them, putting adapters on them, and going on from an earlier stage."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig as PeftLoraConfig
from peft import PeftModel, get_peft_model, get_peft_model_state_dict
from peft.utils.error import NoMatchingPeftModuleError
from peft.utils.save_and_load import load_peft_weights
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.utils import cached_file

from trainer.config.config import LoraConfig, RunConfig, TrainConfig
from trainer.config.errors import TrainingError
from trainer.model.hub import require_in_reach

# The names that language models of vision-language models have; vision towers use some of these layer names too.
LORA_TARGETS = r".*(language_model|text_model).*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"

_PROCESSOR_FILES = (
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "merges.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "video_preprocessor_config.json",
    "vocab.json",
)

_WRAPPED_VIDEO = "<|vision_start|><|video_pad|><|vision_end|>"


class ModelError(TrainingError):
    """A model that cannot be loaded or trained as asked; one line that names the fix."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where weights come from: a base model (of the Hub, at a revision), and an adapter on it, if any."""

    base: str
    adapter: Path | None = None
    revision: str | None = None

    @staticmethod
    def of(model: str, revision: str | None = None) -> Source:
        """The source that ``model`` names: a name on the Hub, a model's folder, an adapter's, or a run's.

        An adapter remembers the revision of its base; ``revision`` is that of ``model`` otherwise.
        """
        folder = Path(model) / "model" if (Path(model) / "model").is_dir() else Path(model)
        config = folder / "adapter_config.json"
        if config.is_file():
            adapter = json.loads(config.read_text("utf-8"))
            if (merged := folder.parent / "merged").is_dir():  # of the same run, which may have been moved
                return Source(str(merged), folder)
            return Source(adapter["base_model_name_or_path"], folder, adapter.get("revision") or revision)
        return Source(str(folder) if folder.is_dir() else model, revision=revision)


@contextmanager
def _loading(model: str, revision: str | None) -> Iterator[None]:
    require_in_reach(model, revision)
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a folder without a model, or of a kind that is not known
        reason = " ".join(str(error).split())
        raise ModelError(f"model {model!r} cannot be loaded: {reason}") from error


def _load_base(source: Source, dtype: Any) -> Any:
    with _loading(source.base, source.revision):
        return AutoModelForImageTextToText.from_pretrained(source.base, dtype=dtype, revision=source.revision)


def load_processor(config: TrainConfig) -> Any:
    """The processor of the base model.

    transformers 5 leaves the chat template's vision tokens around the frames of Qwen3-VL, each of which has its own;
    the release that made the model, and vLLM, put the frames in their place. Unless ``outer_vision_tokens``, they
    are removed from the template in memory; the one in the model's files is not touched.
    """
    source = Source.of(config.model, config.revision)
    with _loading(source.base, source.revision):
        processor = AutoProcessor.from_pretrained(source.base, revision=source.revision)
    if type(processor).__name__ == "Qwen3VLProcessor":
        processor.video_processor.cap_pixels_per_frame = False  # frames come inside a budget of our own
        if not config.outer_vision_tokens:
            processor.chat_template = processor.chat_template.replace(_WRAPPED_VIDEO, "<|video_pad|>")
    return processor


def load_model(config: TrainConfig, merged: Path) -> Any:
    """The model with the weights that are to be trained.

    An earlier stage's adapter is trained further; or merged into its base, written to ``merged`` once, and loaded from
    there, so that a new adapter names as its base what it was trained on.

    Raises:
        ModelError: the model cannot be loaded, the adapter is not in it afterwards, or is another than configured.
    """
    source = Source.of(config.model, config.revision)
    dtype = torch.bfloat16 if config.lora and config.precision == "bf16" else torch.float32
    if source.adapter and config.adapter == "merge":
        if not merged.is_dir():
            raise ModelError(f"{merged} is missing: the adapter is to be merged first")
        source = Source(str(merged))
    base = _load_base(source, dtype)
    if source.adapter:
        if config.lora is None:
            raise ModelError(f"{source.adapter} is an adapter: set adapter=merge to train all weights")
        return continue_adapter(base, source.adapter, config.lora)
    return add_adapter(base, config.lora, source.revision) if config.lora else base


def load_for_scoring(config: TrainConfig) -> Any:
    """The model as it scores, with any adapter merged into it, in the precision it was trained for.

    Raises:
        ModelError: the model cannot be loaded, or the adapter is not in it afterwards.
    """
    source = Source.of(config.model, config.revision)
    model = _load_base(source, torch.bfloat16 if config.precision == "bf16" else torch.float32)
    if source.adapter is None:
        return model
    adapted = PeftModel.from_pretrained(model, source.adapter)
    check_adapter(adapted, source.adapter)
    return adapted.merge_and_unload(safe_merge=True)


def needs_merge(config: TrainConfig) -> bool:
    """Whether the model is an adapter that is to become part of its base."""
    return config.adapter == "merge" and Source.of(config.model).adapter is not None


def merge_adapter(config: TrainConfig, merged: Path) -> None:
    """Write the base model with the adapter merged into it, and the base's processor, to ``merged``."""
    source = Source.of(config.model, config.revision)
    if source.adapter is None:
        raise ModelError(f"{config.model} is no adapter: there is nothing to merge")
    model = PeftModel.from_pretrained(_load_base(source, "auto"), source.adapter)
    check_adapter(model, source.adapter)
    unfinished = merged.with_suffix(".tmp")
    model.merge_and_unload(safe_merge=True).save_pretrained(unfinished)
    copy_processor(config, unfinished)
    unfinished.rename(merged)


def copy_processor(config: RunConfig, folder: Path) -> None:
    """Copy the tokenizer and processor files of the base model as they are: versions that serve it may be older."""
    source = Source.of(config.model, config.revision)
    for name in _PROCESSOR_FILES:
        found = cached_file(source.base, name, revision=source.revision, _raise_exceptions_for_missing_entries=False)
        if found:
            shutil.copyfile(found, folder / name)


def add_adapter(model: Any, lora: LoraConfig, revision: str | None = None) -> Any:
    """The model, of a revision on the Hub, with a new adapter on its language model, which at first changes nothing.

    Raises:
        ModelError: there is no language model of a known layout in it.
    """
    config = PeftLoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=LORA_TARGETS,
        bias="none",
        revision=revision,
    )
    try:
        return get_peft_model(model, config)
    except NoMatchingPeftModuleError as error:
        raise ModelError(
            f"{type(model).__name__} has no linear layers that match {LORA_TARGETS}: set lora=null to train all weights"
        ) from error


def continue_adapter(base: Any, folder: Path, lora: LoraConfig) -> Any:
    """The model with the adapter of ``folder``, to be trained further, with the dropout of ``lora``."""
    stored = PeftLoraConfig.from_pretrained(str(folder))
    if (stored.r, stored.lora_alpha) != (lora.rank, lora.alpha):
        raise ModelError(
            f"{folder} has rank {stored.r} and alpha {stored.lora_alpha}, not {lora.rank} and {lora.alpha} as in lora; "
            f"make them equal, or set adapter=merge to put a new adapter on top"
        )
    stored.lora_dropout = lora.dropout
    model = PeftModel.from_pretrained(base, folder, config=stored, is_trainable=True)
    check_adapter(model, folder)
    return model


def check_adapter(model: Any, folder: Path) -> None:
    """Make sure that the model's adapter is the one in ``folder``, number by number.

    Loading an adapter as a model and wrapping it again starts the adapter anew, with a warning at most: the earlier
    stage is gone.

    Raises:
        ModelError: it is not, or that one changes nothing.
    """
    stored = load_peft_weights(str(folder), device="cpu")
    present = get_peft_model_state_dict(model)
    lost = [
        name
        for name, tensor in stored.items()
        if name not in present or not torch.equal(present[name].cpu().float(), tensor.float())
    ]
    if lost or len(stored) != len(present):
        raise ModelError(f"the adapter of {folder} is not in the model: {len(lost)} of {len(stored)} tensors differ")
    if not any(tensor.any() for name, tensor in stored.items() if "lora_B" in name):
        raise ModelError(f"the adapter of {folder} changes nothing: it has not been trained")
