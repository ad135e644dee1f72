"""Video-ColBERT's score and its dual sigmoid loss (Reddy et al., CVPR 2025, arXiv 2503.19009)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

_BELOW_ANY_COSINE = -2.0


def mean_max_sim(query: Tensor, video: Tensor, mask: Tensor) -> Tensor:
    """MeanMaxSim of every query and video, [queries, videos]: 1/M sum_j max_i q_j . x_i, one way, from the query.

    ``query`` is [queries, M, dims], ``video`` [videos, T, dims], both of unit vectors; ``mask`` [videos, T] says which
    of the video's vectors are there. All M tokens of a query count, those of its padding too: they are its expansion.
    """
    with torch.autocast(query.device.type, enabled=False):  # times e^t', a cosine in 16 bits would be off by a nat
        similar = torch.einsum("qmd,vtd->qvmt", query.float(), video.float())
    return similar.masked_fill(~mask[None, :, None], _BELOW_ANY_COSINE).amax(-1).mean(-1)


def sigmoid_loss(scores: Tensor, targets: Tensor, known: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Sum over videos of BCE(sigmoid(e^scale * score + bias), target) where ``known``; the mean over queries.

    All are [queries, videos] but ``scale`` (SigLIP's t') and ``bias``. A target is 1 or 0, or the probability that the
    video answers the query. The paper prints exp(z (-t s + b)), as SigLIP's does (arXiv 2303.15343): with the negative
    b that both start from, that sign would push positives the wrong way; the code of SigLIP has the sign used here.
    """
    logits = scale.exp() * scores + bias
    losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return torch.where(known, losses, 0.0).sum(1).mean()


def dual_loss(
    scores: Mapping[str, Tensor],
    targets: Tensor,
    known: Tensor,
    scale: Tensor,
    bias: Tensor,
    weights: Mapping[str, float],
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of one sigmoid loss a level, and the losses without their weights, detached.

    On the sum of the levels' scores alone, the level that learns faster would leave the other without a gradient.
    """
    terms = {level: sigmoid_loss(mine, targets, known, scale, bias) for level, mine in scores.items()}
    total = torch.stack([weights[level] * term for level, term in terms.items()]).sum()
    return total, {level: term.detach() for level, term in terms.items()}
