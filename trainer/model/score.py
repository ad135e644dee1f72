"""The two quantities that a model is asked for: the score of a pair, and the log-likelihood of a caption."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from trainer.model.prompt import IGNORED, Answers, Inputs


@contextmanager
def answers_alone(model: Any, answers: Answers) -> Iterator[None]:
    """Within, the model computes two logits, of yes and of no, in 32 bits from its last hidden state.

    In bfloat16 a logit of 20 is rounded to an eighth: of a hundred candidates, dozens would share a score.
    """
    head = getattr(model, "module", model).get_output_embeddings()  # DistributedDataParallel hides it
    rows = [answers.yes, answers.no]

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            # A row at a time, so that equal rows have equal logits; those of a matrix product depend on their place.
            logits = (hidden.float().unsqueeze(-2) * head.weight[rows].float()).sum(-1)
            return logits if head.bias is None else logits + head.bias[rows].float()

    head.forward = forward
    try:
        yield
    finally:
        del head.forward


def pair_scores(model: Any, inputs: Inputs, answers: Answers) -> torch.Tensor:
    """logit(yes) - logit(no) after the prompt, (pairs,) in 32 bits; no other logit is computed."""
    with answers_alone(model, answers):
        logits = model(**inputs, logits_to_keep=1, use_cache=False).logits[:, -1]
    scores: torch.Tensor = logits[:, 0] - logits[:, 1]
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
