"""Video-ColBERT's score and loss against arithmetic done by hand, and against other people's code."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import tensor

from trainer.retriever.losses import dual_loss, mean_max_sim, sigmoid_loss

CLIP, SIGLIP = (math.log(10), -10.0), (4.77, -12.93)
QUERIES, VIDEOS, TOKENS, FRAMES, DIMS = 16, 48, 8, 6, 256


def units(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def everything(vectors):
    return torch.ones(vectors.shape[:2], dtype=torch.bool)


@pytest.fixture
def batch():
    """Scores of random vectors, near 0, the targets of a batch with two hard negatives a query, and all pairs known."""
    scores = mean_max_sim(
        units(QUERIES, TOKENS, DIMS), units(VIDEOS, FRAMES, DIMS, seed=1), everything(units(48, 6, 2))
    )
    targets = torch.zeros(QUERIES, VIDEOS)
    targets[torch.arange(QUERIES), 3 * torch.arange(QUERIES)] = 1.0
    return scores, targets, torch.ones(QUERIES, VIDEOS, dtype=torch.bool)


def test_the_score_is_the_mean_over_query_tokens_of_the_best_video_vector():
    query, video = units(3, 5, 4), units(2, 7, 4, seed=1)
    mask = torch.ones(2, 7, dtype=torch.bool)
    mask[1, 2:] = False

    scores = mean_max_sim(query, video, mask)

    for i in range(3):
        for j, there in enumerate((7, 2)):
            best = [max(float(query[i, m] @ video[j, t]) for t in range(there)) for m in range(5)]
            assert float(scores[i, j]) == pytest.approx(sum(best) / 5, abs=1e-6)


def test_the_score_is_sentence_transformers_maxsim_divided_by_the_query_length():
    from sentence_transformers.util import maxsim

    query, video = units(4, 9, 16), units(5, 7, 16, seed=1)
    mask = torch.arange(7) < tensor([7, 1, 3, 5, 2])[:, None]

    theirs = maxsim(query, video, b_mask=mask, length_normalize=True)

    torch.testing.assert_close(mean_max_sim(query, video, mask), theirs, atol=1e-6, rtol=0)


def test_vectors_that_are_not_there_do_not_win_even_over_opposite_ones():
    query, video = tensor([[[1.0, 0.0]]]), tensor([[[-1.0, 0.0], [0.0, 0.0]]])

    assert mean_max_sim(query, video, tensor([[True, False]])).tolist() == [[-1.0]]


def test_only_the_query_asks():
    """A video's vector that no token of the query likes costs nothing; a token that finds no vector does."""
    one, two = tensor([[[1.0, 0.0]]]), tensor([[[1.0, 0.0], [0.0, 1.0]]])

    assert mean_max_sim(one, two, everything(two)).item() == 1.0
    assert mean_max_sim(two, one, everything(one)).item() == 0.5


def test_scores_keep_their_precision_where_the_model_runs_in_16_bits():
    query, video = units(4, 9, 64), units(5, 7, 64, seed=1)

    with torch.autocast("cpu", torch.bfloat16):
        found = mean_max_sim(query, video, everything(video))

    assert torch.equal(found, mean_max_sim(query, video, everything(video)))


def test_the_loss_is_summed_over_known_videos_and_averaged_over_queries():
    scores, targets = tensor([[0.9, 0.2, 0.4], [0.1, 0.3, -0.5]]), tensor([[1.0, 0.0, 0.25], [0.0, 1.0, 0.0]])
    known = tensor([[True, True, True], [False, True, True]])
    t, b = 1.5, -2.0

    loss = sigmoid_loss(scores, targets, known, tensor(t), tensor(b))

    total = 0.0
    for i, j in known.nonzero().tolist():
        p = 1 / (1 + math.exp(-(math.exp(t) * float(scores[i, j]) + b)))
        target = float(targets[i, j])
        total -= target * math.log(p) + (1 - target) * math.log(1 - p)
    assert float(loss) == pytest.approx(total / 2, rel=1e-5)


def test_hard_targets_give_the_papers_formula_with_the_sign_of_siglips_code(batch):
    scores, targets, known = batch
    z = 2 * targets - 1

    loss = sigmoid_loss(scores, targets, known, tensor(CLIP[0]), tensor(CLIP[1]))

    expected = -F.logsigmoid(z * (10.0 * scores - 10.0)).sum() / QUERIES
    torch.testing.assert_close(loss, expected)


def test_the_gradients_of_scale_and_bias_are_those_found_by_hand(batch):
    scores, targets, known = batch
    known = known & (torch.rand(known.shape, generator=torch.Generator().manual_seed(2)) > 0.3)
    t, b = tensor(1.2, requires_grad=True), tensor(-3.0, requires_grad=True)

    sigmoid_loss(scores, targets, known, t, b).backward()

    # d BCE / d logit = sigmoid(logit) - target; d logit / d b = 1, d logit / d t' = e^t' s
    off = (torch.sigmoid(math.exp(1.2) * scores - 3.0) - targets) * known
    assert b.grad.item() == pytest.approx(off.sum().item() / QUERIES, rel=1e-5)
    assert t.grad.item() == pytest.approx((off * math.exp(1.2) * scores).sum().item() / QUERIES, rel=1e-5)


def test_a_pair_that_is_not_known_has_no_part_in_loss_or_gradient(batch):
    scores, targets, known = batch
    known[0, 5] = False
    scores = scores.clone().requires_grad_()
    loss = sigmoid_loss(scores, targets, known, tensor(CLIP[0]), tensor(CLIP[1]))
    loss.backward()

    changed = scores.detach().clone()
    changed[0, 5] = 1.0

    assert scores.grad[0, 5] == 0
    assert sigmoid_loss(changed, targets, known, tensor(CLIP[0]), tensor(CLIP[1])) == loss.detach()


@pytest.mark.parametrize("start", [CLIP, SIGLIP])
def test_the_first_loss_is_about_minus_b_a_level_and_query(start, batch):
    """Before it knows anything, the loss is about that of the positive alone: log(1 + e^10) or log(1 + e^12.93)."""
    scores, targets, known = batch

    loss = sigmoid_loss(scores, targets, known, tensor(start[0]), tensor(start[1]))

    top = math.exp(start[0]) * float(scores.max())  # by so much a pair can be off
    assert float(loss) == pytest.approx(-start[1], abs=top)
    assert 5 < float(sigmoid_loss(scores * 0, targets, known, tensor(start[0]), tensor(start[1]))) < 15


def wrong_sign(scores, targets, scale, bias):
    """As the papers print it: exp(z (-t s + b))."""
    z = 2 * targets - 1
    return F.softplus(z * (-math.exp(scale) * scores + bias)).sum(1).mean()


def raw_scale(scores, targets, scale, bias):
    """t' taken for t."""
    return F.binary_cross_entropy_with_logits(scale * scores + bias, targets, reduction="none").sum(1).mean()


def sum_of_tokens(scores, targets, scale, bias):
    """MaxSim as in ColBERT, not divided by the query's length."""
    logits = math.exp(scale) * TOKENS * scores + bias
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1).mean()


def mean_over_pairs(scores, targets, scale, bias):
    """Divided by the videos too, so that a batch twice as large would learn half as fast."""
    return F.binary_cross_entropy_with_logits(math.exp(scale) * scores + bias, targets)


@pytest.mark.parametrize("start", [CLIP, SIGLIP])
@pytest.mark.parametrize("formula", [wrong_sign, raw_scale, sum_of_tokens, mean_over_pairs])
def test_a_wrong_formula_gives_another_value(formula, start, batch):
    scores, targets, known = batch
    scores = scores + 0.5 * targets  # a model that has begun to learn

    right = sigmoid_loss(scores, targets, known, *map(tensor, start))

    assert abs(float(formula(scores, targets, *start)) - float(right)) > 0.5


def test_the_printed_sign_starts_saturated_in_the_hundreds(batch):
    scores, targets, known = batch

    right = sigmoid_loss(scores, targets, known, *map(tensor, CLIP))

    assert float(wrong_sign(scores, targets, *CLIP)) > 300
    assert float(right) < 15


def test_each_level_has_a_loss_of_its_own_and_a_weight():
    targets, known = torch.eye(2), torch.ones(2, 2, dtype=torch.bool)
    scores = {"frames": tensor([[0.9, 0.1], [0.2, 0.8]]), "video": tensor([[0.3, 0.1], [0.0, 0.5]])}
    t, b = tensor(CLIP[0]), tensor(CLIP[1])
    alone = {level: float(sigmoid_loss(mine, targets, known, t, b)) for level, mine in scores.items()}

    total, terms = dual_loss(scores, targets, known, t, b, {"frames": 1.0, "video": 0.25})

    assert {level: float(term) for level, term in terms.items()} == pytest.approx(alone)
    assert float(total) == pytest.approx(alone["frames"] + 0.25 * alone["video"])
    assert float(total) != pytest.approx(
        float(sigmoid_loss(scores["frames"] + scores["video"], targets, known, t, b)), abs=0.1
    )
