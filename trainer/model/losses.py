"""The terms of the ranking loss, each a function of one query group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from trainer.config.config import LossConfig, PointwiseTerm
from trainer.data.examples import Candidate, QueryCandidate


@dataclass(frozen=True)
class Targets:
    """What is known of a group's candidates, (candidates,) each.

    ``p_yes`` and ``delta`` (nats) are the teacher's, NaN where it told none. A margin that is only an upper bound has
    ``bound`` -1, one that is only a lower bound +1, a known one 0.
    """

    labels: Tensor
    p_yes: Tensor
    delta: Tensor
    bound: Tensor

    @staticmethod
    def of(candidates: Sequence[Candidate | QueryCandidate]) -> Targets:
        """The targets of a group."""
        nan = float("nan")
        known = [(nan, nan) if c.p_yes is None or c.delta is None else (c.p_yes, c.delta) for c in candidates]
        return Targets(
            labels=torch.tensor([float(c.label) for c in candidates]),
            p_yes=torch.tensor([p_yes for p_yes, _ in known]),
            delta=torch.tensor([delta for _, delta in known]),
            bound=torch.tensor([{"yes": -1.0, "no": 1.0, None: 0.0}[c.censored] for c in candidates]),
        )

    def to(self, device: torch.device) -> Targets:
        """The same on another device."""
        return Targets(*(getattr(self, field.name).to(device) for field in fields(self)))


def pairwise(scores: Tensor, targets: Targets, temperature: float) -> Tensor:
    """-log softmax(scores / temperature) of a positive among the negatives, the mean over positives.

    No positive stands among the negatives of another: that would teach an answer to be a wrong one.
    """
    positive = targets.labels == 1
    rows = positive.nonzero()
    others = positive & (torch.arange(len(scores), device=scores.device) != rows)  # (positives, candidates)
    among = (scores / temperature).expand(len(rows), -1).masked_fill(others, -torch.inf)
    return -torch.log_softmax(among, 1).gather(1, rows).mean()


def teacher(scores: Tensor, targets: Targets, temperature: float) -> Tensor:
    """Mean of BCE(sigmoid(scores / temperature), p_yes) over the candidates whose p_yes is known; 0 where none is.

    A margin that is only a bound costs nothing beyond the teacher's own entropy on the side that it allows: the scaled
    score is taken to be the bound there.
    """
    known = ~targets.p_yes.isnan()
    if not known.any():
        return scores.sum() * 0.0
    scaled, delta, bound = scores[known] / temperature, targets.delta[known], targets.bound[known]
    allowed = (scaled - delta) * bound > 0
    return F.binary_cross_entropy_with_logits(torch.where(allowed, delta, scaled), targets.p_yes[known])


def pointwise(scores: Tensor, targets: Targets, term: PointwiseTerm) -> Tensor:
    """Mean over candidates of weight * BCE(sigmoid(scores / temperature), target), by label."""
    positive = targets.labels == 1
    target = torch.where(positive, term.positive_target, term.negative_target)
    weight = torch.where(positive, term.positive_weight, term.negative_weight)
    return F.binary_cross_entropy_with_logits(scores / term.temperature, target, weight=weight)


def listwise(scores: Tensor, targets: Targets, temperature: float) -> Tensor:
    """ListNet (Cao et al. 2007): cross-entropy of the group's two top-one distributions, the teacher's and the model's.

    Over the candidates whose margin is known; 0 where there are fewer than two.
    """
    known = ~targets.delta.isnan()
    if known.sum() < 2:
        return scores.sum() * 0.0
    wanted = torch.softmax(targets.delta[known] / temperature, 0)
    return -(wanted * torch.log_softmax(scores[known] / temperature, 0)).sum()


def ranking_loss(
    scores: Sequence[Tensor], targets: Sequence[Targets], config: LossConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch of groups, and its terms without their weights, detached.

    Every term is the mean of its groups: each query counts the same, whatever is known of it, so that gradients do not
    depend on how the groups of a step are dealt out to devices and accumulation steps.
    """
    functions: dict[str, Callable[[Tensor, Targets], Tensor]] = {
        "pairwise": lambda s, t: pairwise(s, t, config.pairwise.temperature),
        "teacher": lambda s, t: teacher(s, t, config.teacher.temperature),
        "pointwise": lambda s, t: pointwise(s, t, config.pointwise),
        "listwise": lambda s, t: listwise(s, t, config.listwise.temperature),
    }
    weights = {name: getattr(config, name).weight for name in functions}
    terms = {
        name: torch.stack([function(s, t) for s, t in zip(scores, targets, strict=True)]).mean()
        for name, function in functions.items()
        if weights[name] > 0
    }
    total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
    return total, {name: term.detach() for name, term in terms.items()}
