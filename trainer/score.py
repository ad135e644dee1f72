"""The two quantities that a model is asked for: the score of a pair, and the log-likelihood of a caption."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from trainer.prompt import IGNORED, Answers, Inputs


def pair_scores(model: Any, inputs: Inputs, answers: Answers) -> torch.Tensor:
    """logit(yes) - logit(no) after the prompt, (pairs,) in 32 bits; logits are computed for that position alone."""
    logits = model(**inputs, logits_to_keep=1, use_cache=False).logits[:, -1].float()
    scores: torch.Tensor = logits[:, answers.yes] - logits[:, answers.no]
    return scores


def caption_loss(model: Any, inputs: Inputs) -> torch.Tensor:
    """The negative log-likelihood (nats) of all caption tokens together.

    Logits are computed for the positions that predict a caption's token alone: with a vocabulary of 150,000 all of
    them would be the largest tensor of the step.
    """
    labels = inputs["labels"]
    learned = labels != IGNORED
    predicts = learned.roll(-1, dims=1)  # a token is predicted one position before it; the first is never learned
    others = {name: value for name, value in inputs.items() if name != "labels"}
    logits = model(**others, logits_to_keep=predicts, use_cache=False).logits.float()
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels[learned], reduction="sum")
