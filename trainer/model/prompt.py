"""The one place where a video and a text become a model's input: in training, scoring and evaluation alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.video_utils import VideoMetadata

from trainer.config.config import PromptConfig
from trainer.config.errors import TrainingError
from trainer.data.clips import Clip, FrameBudget

Inputs = dict[str, torch.Tensor]

IGNORED = -100
"""The label of a token that is not learned."""

_TICKS = 1000  # a second; frame times are told as the frame numbers of a video of this rate


class PromptError(TrainingError):
    """A prompt that this tokenizer cannot carry out; one line that names the fix."""


@dataclass(frozen=True, slots=True)
class Answers:
    """The token ids of the two answers."""

    yes: int
    no: int


class Prompt:
    """Renders one stage's prompt for a model family's processor, and tokenizes it together with the frames.

    Rows are padded on the left, so that the position that decides is always the last.
    """

    def __init__(self, processor: Any, config: PromptConfig) -> None:
        self._processor = processor
        self._config = config
        self._control = control_tokens(processor.tokenizer)

    def answers(self) -> Answers:
        """The ids of "yes" and "no" where the reply's prefix is followed by them.

        Raises:
            PromptError: the tokenizer merges an answer with the prefix, or cuts it in pieces.
        """
        return Answers(self._answer("yes"), self._answer("no"))

    def for_scoring(self, clips: Sequence[Clip], queries: Sequence[str]) -> Inputs:
        """Inputs for (clip, query) pairs that end with the reply's prefix: the answer is the next token."""
        texts = [self._opening(query) + self._config.reply for query in queries]
        return self._encode(texts, clips)

    def text_ids(self, query: str) -> list[int]:
        """The ids of a scoring prompt's text, where a video is one placeholder."""
        return self._ids(self._opening(query) + self._config.reply)

    def for_captions(self, clips: Sequence[Clip], captions: Sequence[str]) -> Inputs:
        """Inputs that hold each clip's caption, and ``labels``, which are IGNORED everywhere else.

        Raises:
            PromptError: the tokenizer merges a caption with what comes before it.
        """
        end = self._processor.tokenizer.eos_token
        replies = [self._config.reply.replace("{caption}", self._neutral(caption)) + end for caption in captions]
        inputs = self._encode([self._opening() + reply for reply in replies], clips)
        labels = torch.full_like(inputs["input_ids"], IGNORED)
        for row, reply in enumerate(replies):
            target = torch.tensor(self._ids(reply))
            if not torch.equal(inputs["input_ids"][row, -len(target) :], target):
                raise PromptError(f"perception.prompt.reply must start a new token after the model's turn: {reply!r}")
            labels[row, -len(target) :] = target
        return inputs | {"labels": labels}

    def _opening(self, query: str = "") -> str:
        """The text up to the model's turn."""
        user = self._config.user.replace("{query}", self._neutral(query))
        messages = [
            {"role": "system", "content": [{"type": "text", "text": self._config.system}]},
            {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": user}]},
        ]
        text: str = self._processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return text

    def _encode(self, texts: list[str], clips: Sequence[Clip]) -> Inputs:
        if grid_multiple(self._processor) == 1 and len({len(clip.frames) for clip in clips}) > 1:
            raise PromptError(  # such models stack videos, and frames that fill up a short one would change its score
                f"{type(self._processor).__name__} cannot batch videos of different numbers of frames: "
                f"set micro_batch=1, and ranking.pairs_at_once=1"
            )
        as_they_are: dict[str, Any] = {"do_sample_frames": False}
        if grid_multiple(self._processor) > 1:
            as_they_are["do_resize"] = False  # the clips are on the model's grid, inside the one budget
        encoded = self._processor(
            text=texts,
            videos=[clip.frames for clip in clips],
            video_metadata=[_metadata(clip) for clip in clips],
            add_special_tokens=False,  # the chat template has written them all
            padding=True,
            padding_side="left",
            return_tensors="pt",
            **as_they_are,
        )
        encoded.pop("video_metadata", None)
        return dict(encoded)

    def _answer(self, word: str) -> int:
        before, after = (self._ids(self._opening() + self._config.reply + end) for end in ("", word))
        if len(after) != len(before) + 1 or after[:-1] != before:
            raise PromptError(
                f"this tokenizer does not make one token of {word!r} after {self._config.reply!r}; "
                f"end ranking.prompt.reply otherwise"
            )
        return after[-1]

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _neutral(self, text: str) -> str:
        return neutral(text, self._control)


def control_tokens(tokenizer: Any) -> list[str]:
    """The texts that the tokenizer turns into control tokens, longest first."""
    added = tokenizer.added_tokens_decoder.values()
    return sorted((t.content for t in added if t.special or t.content.startswith("<")), key=len, reverse=True)


def neutral(text: str, control: Iterable[str]) -> str:
    """``text`` with a space inside everything that would become a control token; it stays readable, and is only text.

    >>> neutral("what is <|video_pad|>?", ["<|video_pad|>"])
    'what is < |video_pad|>?'
    """
    for token in control:
        text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


def grid_multiple(processor: Any) -> int:
    """What the sides of a frame must be multiples of, in pixels; 1 where the processor resizes to sizes of its own."""
    video = processor.video_processor
    return getattr(video, "patch_size", 1) * getattr(video, "merge_size", 1) if hasattr(video, "merge_size") else 1


def frame_budget(processor: Any, frames: int, max_pixels: int) -> FrameBudget:
    """The budget of a video on the grid of the model."""
    return FrameBudget(frames, max_pixels, grid_multiple(processor))


def _metadata(clip: Clip) -> VideoMetadata:
    count, height, width, _ = clip.frames.shape
    return VideoMetadata(
        total_num_frames=round(count / clip.sample_fps * _TICKS),
        fps=float(_TICKS),
        frames_indices=[round(time_s * _TICKS) for time_s in clip.times_s],
        duration=count / clip.sample_fps,
        height=height,
        width=width,
    )
