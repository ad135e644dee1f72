"""Queries of one video, scored together: the same scores as one by one, in three families of models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from tests.support import tiny_vlm
from trainer.config.config import PromptConfig
from trainer.data.clips import Clip
from trainer.model.prompt import Prompt
from trainer.model.score import pair_scores
from trainer.model.shared_prefix import share_prefix, shared_scores

QUERIES = [
    "a red ball",
    "what is shown in the video about a ball that moves left",
    "left",
    "a red ball moves",
    "video?",
]


@pytest.fixture(scope="module", params=["qwen3_vl", "qwen2_5_vl", "llava_onevision"])
def scored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[object, Prompt, Clip]:
    folder = tiny_vlm.build(tmp_path_factory.mktemp("models") / request.param, request.param, QUERIES * 5)
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    prompt = Prompt(processor, PromptConfig(system="You judge.", user="Query: {query}\nIs it?", reply="<answer>"))
    pixels = np.random.default_rng(0).integers(0, 255, (4, tiny_vlm.PIXELS, tiny_vlm.PIXELS, 3), dtype=np.uint8)
    return model, prompt, Clip(pixels, (0.0, 0.5, 1.0, 1.5))


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("seconds_apart", [0.5, 60.0])
def test_scores_are_those_of_separate_sequences(
    scored: tuple[object, Prompt, Clip], n: int, seconds_apart: float
) -> None:
    model, prompt, clip = scored
    answers = prompt.answers()
    # Qwen2.5-VL places a frame by its time: those of a long video stand behind the text that follows them.
    clip = Clip(clip.frames, tuple(number * seconds_apart for number in range(len(clip.frames))))
    with torch.inference_mode():
        together = shared_scores(model, share_prefix(prompt, clip, QUERIES[:n]), answers)
        apart = torch.cat([pair_scores(model, prompt.for_scoring([clip], [query]), answers) for query in QUERIES[:n]])
    assert together.shape == (n,)
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=0)


def test_equal_queries_have_equal_scores(scored: tuple[object, Prompt, Clip]) -> None:
    model, prompt, clip = scored
    with torch.inference_mode():
        same = shared_scores(model, share_prefix(prompt, clip, ["a red ball"] * 3), prompt.answers())
    assert same.unique().numel() == 1


def test_prefix_and_tail_make_the_whole_sequence(scored: tuple[object, Prompt, Clip]) -> None:
    _, prompt, clip = scored
    shared = share_prefix(prompt, clip, QUERIES)
    for query, tail in zip(QUERIES, shared.tails, strict=True):
        whole = prompt.for_scoring([clip], [query])["input_ids"][0].tolist()
        assert [*shared.prefix["input_ids"][0].tolist(), *tail] == whole


def test_a_prompt_whose_query_comes_before_the_video_is_refused(tmp_path: Path) -> None:
    folder = tiny_vlm.build(tmp_path / "model", "qwen3_vl", QUERIES)
    processor = AutoProcessor.from_pretrained(folder)
    system_says = PromptConfig(system="Judge.", user="Query: {query}", reply="<answer>")
    prompt = Prompt(processor, system_says)
    processor.chat_template = processor.chat_template.replace("<|vision_start|><|video_pad|><|vision_end|>", "")
    processor.chat_template += "<|vision_start|><|video_pad|><|vision_end|>"
    clip = Clip(np.zeros((4, tiny_vlm.PIXELS, tiny_vlm.PIXELS, 3), np.uint8), (0.0, 0.5, 1.0, 1.5))
    with pytest.raises(ValueError, match="video first"):
        share_prefix(prompt, clip, ["a red ball", "left"])
