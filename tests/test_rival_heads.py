"""The rivals of the hybrid against plain torch, in float64 where they are compared with an equation."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rival_cases import CONFIG, ITEMS, D, N, P, dense_targets, features_of, make_setting, make_truth
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.contender import RIVALS
from benchmarks.dense_head import DenseHead, initial_bias_N
from benchmarks.partial_head import SAMPLE_BLOCK, SAMPLE_RATE, PartialHead
from benchmarks.rival_pipeline import RivalPipeline
from benchmarks.sampled_by_hand import SampledByHand
from benchmarks.sampled_head import SampledHead
from benchmarks.softmax_head import SoftmaxHead
from benchmarks.true_tags import TrueTags
from hybrid.micro_batch import MicroBatch
from hybrid.phases import PhaseTimer
from hybrid.tag_batch import ItemNumbers
from hybrid.trunk_passes import TrunkPasses
from workers.chunk import Chunk
from workers.engine import WideEngine
from workers.matrix import TagMatrix

CHUNKED = [DenseHead, SoftmaxHead]


@pytest.fixture
def truth():
    return make_truth()


@pytest.fixture
def setting(truth):
    return make_setting(truth)


def test_rivals_start_from_the_rows_of_the_workers_matrix(setting):
    matrix = TagMatrix.create(N, D, config=CONFIG, seed=setting.seed)
    np.testing.assert_array_equal(setting.initial_rows_ND().numpy(), matrix.rows_ND)


def bce(logits, targets):
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="sum")


def mean_cross_entropy(logits, targets):
    """Example by example: the mean of -log softmax over the true tags."""
    total = torch.zeros((), dtype=torch.float64)
    for logits_N, targets_N in zip(logits, targets, strict=True):
        if targets_N.any():
            total = total - torch.log_softmax(logits_N, 0)[targets_N.bool()].mean()
    return total


def doubles(*tensors):
    return [tensor.detach().double().requires_grad_() for tensor in tensors]


def assert_same(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other.float(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("tags_per_chunk", [1, 7, 50, 1000])
@pytest.mark.parametrize(("rival", "equation"), [(DenseHead, bce), (SoftmaxHead, mean_cross_entropy)])
def test_chunks_have_the_gradients_of_the_equation(setting, truth, rival, equation, tags_per_chunk):
    head = rival(setting, chunk_logits=tags_per_chunk * len(ITEMS))
    features = features_of(len(ITEMS)) * 4
    naive = doubles(head.rows_ND, head.bias_N, features)
    loss = equation(naive[2] @ naive[0].T + naive[1], dense_targets(truth).double())
    loss.backward()
    chunks = list(head.chunk_grads(features, ITEMS))
    assert [chunk.tags.start for chunk in chunks] == list(range(0, N, tags_per_chunk))
    assert head.last_loss_sum.item() == pytest.approx(loss.item(), rel=1e-5)
    ours = [
        torch.cat([chunk.row_grad_nD for chunk in chunks]),
        torch.cat([chunk.bias_grad_n for chunk in chunks]),
        sum(chunk.feature_grad_BD for chunk in chunks),
    ]
    assert_same(ours, [tensor.grad for tensor in naive])


def test_softmax_of_huge_scores_is_finite(setting, truth):
    head = SoftmaxHead(setting, chunk_logits=7 * len(ITEMS))
    features = features_of(len(ITEMS)) * 1e4
    naive = doubles(head.rows_ND, head.bias_N, features)
    mean_cross_entropy(naive[2] @ naive[0].T + naive[1], dense_targets(truth)).backward()
    grads = torch.cat([chunk.row_grad_nD for chunk in head.chunk_grads(features, ITEMS)])
    torch.testing.assert_close(grads, naive[0].grad.float(), rtol=1e-3, atol=1.0)
    assert math.isfinite(head.last_loss_sum)


@pytest.mark.parametrize("rival", CHUNKED)
def test_a_dense_step_is_row_wise_adagrad_on_the_rows_as_they_were(setting, rival):
    head = rival(setting, chunk_logits=7 * len(ITEMS))
    rows, bias, features = head.rows_ND.clone(), head.bias_N.clone(), features_of(len(ITEMS))
    chunks = list(head.chunk_grads(features, ITEMS))
    grad_ND = torch.cat([chunk.row_grad_nD for chunk in chunks])
    bias_grad_N = torch.cat([chunk.bias_grad_n for chunk in chunks])
    loss_sum, feature_grad = head.learn(features, ITEMS)
    torch.testing.assert_close(loss_sum, head.last_loss_sum)
    torch.testing.assert_close(feature_grad, sum(chunk.feature_grad_BD for chunk in chunks))
    torch.testing.assert_close(head.rows_ND, adagrad(rows, grad_ND, [grad_ND]))
    torch.testing.assert_close(head.bias_N, adagrad(bias[:, None], bias_grad_N[:, None], [bias_grad_N[:, None]])[:, 0])


def adagrad(rows, grad, history):
    """Row-wise Adagrad's next rows, from all gradients so far."""
    square = sum(earlier.square().mean(1, keepdim=True) for earlier in history)
    return rows - CONFIG.row_lr * grad / (square + 1e-10).sqrt()


@pytest.mark.parametrize("rival", CHUNKED)
def test_the_dense_rivals_never_hold_all_logits(setting, rival):
    class Largest(TorchDispatchMode):
        numel = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and result.untyped_storage().nbytes() != head.rows_ND.nbytes:
                self.numel = max(self.numel, result.untyped_storage().nbytes() // 4)
            return result

    head = rival(setting, chunk_logits=5 * len(ITEMS))
    with Largest() as largest:
        head.learn(features_of(len(ITEMS)), ITEMS)
    assert 0 < largest.numel < N * len(ITEMS)
    head = rival(setting, chunk_logits=N * len(ITEMS))
    with Largest() as largest:
        head.learn(features_of(len(ITEMS)), ITEMS)
    assert largest.numel >= N * len(ITEMS), "this measure sees all logits where they are"


def test_partial_softmax_has_the_gradients_of_the_equation_and_steps_the_sample_alone(setting, truth):
    head, features, targets = PartialHead(setting), features_of(len(ITEMS)) * 4, dense_targets(truth)
    example_X, tag_X = setting.true_tags.of(ITEMS)
    history = []
    for _ in range(2):
        state = head._generator.get_state()
        ids, log_weight = head.draw(tag_X)
        head._generator.set_state(state)
        naive = doubles(head.rows_ND, head.bias_N, features)
        loss = naive_partial_loss(naive, ids.tolist(), targets)
        loss.backward()
        ours = head.grads(features, example_X, tag_X, ids, log_weight)
        assert ours[0].item() == pytest.approx(loss.item(), rel=1e-5)
        assert_same(ours[1:], [naive[0].grad[ids], naive[1].grad[ids], naive[2].grad])
        history.append(naive[0].grad)
        expected = adagrad(head.rows_ND, history[-1].float(), [grad.float() for grad in history])
        loss_sum, feature_grad = head.learn(features, ITEMS)
        torch.testing.assert_close(loss_sum, ours[0])
        torch.testing.assert_close(feature_grad, ours[3])
        torch.testing.assert_close(head.rows_ND, expected)


def naive_partial_loss(naive, ids, targets):
    """The equation over the sample: tags of the batch weigh 1, the others 1 / rate."""
    rows, bias, features = naive
    of_batch = targets.any(0)
    total = torch.zeros((), dtype=torch.float64)
    for b in range(len(features)):
        scores = rows @ features[b] + bias
        z = sum(scores[i].exp() * (1 if of_batch[i] else 1 / SAMPLE_RATE) for i in ids)
        true = targets[b].nonzero()[:, 0]
        if len(true):
            total = total + z.log() - scores[true].mean()
    return total


@pytest.mark.parametrize("block", [4, SAMPLE_BLOCK])
def test_a_sample_holds_the_batch_and_a_tenth_of_the_others_and_estimates_the_whole_sum(setting, block, monkeypatch):
    """In whole blocks, unless too few were drawn to leave some out again."""
    monkeypatch.setattr("benchmarks.partial_head.SAMPLE_BLOCK", block)
    head, num_draws = PartialHead(setting), 4000
    batch = torch.tensor([3, 4, 49])
    weight_N = torch.zeros(N, dtype=torch.float64)
    for _ in range(num_draws):
        ids, log_weight = head.draw(batch)
        assert (ids.diff() > 0).all() and set(batch.tolist()) <= set(ids.tolist())
        assert (log_weight[torch.isin(ids, batch)] == 0).all()
        assert len(ids) % block == 0 or len(ids) - len(batch) <= len(ids) % block
        weight_N[ids] += log_weight.double().exp()
    deviation = math.sqrt((1 - SAMPLE_RATE) / SAMPLE_RATE / num_draws)
    torch.testing.assert_close(weight_N / num_draws, torch.ones(N, dtype=torch.float64), atol=5 * deviation, rtol=0)


@pytest.mark.parametrize("rival", RIVALS.values(), ids=RIVALS)
def test_examples_without_tags_leave_a_softmax_at_rest_and_nothing_becomes_nan(setting, rival):
    head = rival(setting)
    rows = torch.from_numpy(head.for_ranking()[0].copy())
    loss_sum, feature_grad = head.learn(features_of(2), np.zeros(2, np.int64))
    assert math.isfinite(loss_sum) and feature_grad.isfinite().all()
    if rival in (SoftmaxHead, PartialHead):
        assert loss_sum == 0 and not feature_grad.any()
        np.testing.assert_array_equal(head.for_ranking()[0], rows)


def test_a_frequency_of_none_or_all_has_finite_log_odds():
    assert np.isfinite(initial_bias_N(np.array([0, 1, 20]), 20)).all()
    assert initial_bias_N(np.array([5]), 20)[0] == pytest.approx(np.log(0.25 / 0.75))


def naive_sampling_loss(head, truth, rows, bias, features):
    """The equation, example by example, draw by draw."""
    offsets, tags = truth
    pos_ids, pos_offsets, neg_ids = head.draw(ITEMS)
    total = torch.zeros((), dtype=torch.float64)
    for b, item in enumerate(ITEMS):
        true = set(tags[offsets[item] : offsets[item + 1]].tolist())
        positives = pos_ids[pos_offsets[b] : pos_offsets[b + 1]]
        assert set(positives.tolist()) <= true and len(positives) == min(P, len(true))
        for t in positives:
            total = total - F.logsigmoid(rows[t] @ features[b] + bias[t]) / len(positives)
        for k in neg_ids[b // head.config.chunk_size]:
            if int(k) not in true:
                score = rows[k] @ features[b] + bias[k]
                total = total - F.logsigmoid(-score) * head.config.negative_weight / head.config.negatives
    return total


def test_sampled_rival_has_loss_and_gradients_of_the_equation(setting, truth):
    head = SampledHead(setting)
    rows = head.rows.weight.detach().double().requires_grad_()
    bias = head.bias.weight.detach()[:, 0].double().requires_grad_()
    features = features_of(len(ITEMS)).double().requires_grad_()
    naive = naive_sampling_loss(head, truth, rows, bias, features)
    naive.backward()
    single = features.detach().float().requires_grad_()
    loss = head.loss_sum(single, ITEMS)
    loss.backward()
    assert head.rows.weight.grad.is_sparse and head.bias.weight.grad.is_sparse
    assert loss.item() == pytest.approx(naive.item(), rel=1e-5)
    for ours, theirs in [
        (single.grad, features.grad),
        (head.rows.weight.grad.to_dense(), rows.grad),
        (head.bias.weight.grad.to_dense()[:, 0], bias.grad),
    ]:
        torch.testing.assert_close(ours, theirs.float(), atol=1e-5, rtol=1e-4)


def test_the_sampled_rival_by_hand_steps_rows_as_the_equation_says(setting, truth):
    head, features = SampledByHand(setting), features_of(len(ITEMS))
    rows, bias = (tensor.clone().double().requires_grad_() for tensor in (head.rows_ND, head.bias_N))
    wide = features.double().requires_grad_()
    naive = naive_sampling_loss(head, truth, rows, bias, wide)
    naive.backward()
    loss_sum, feature_grad = head.learn(features, ITEMS)
    assert loss_sum.item() == pytest.approx(naive.item(), rel=1e-5)
    torch.testing.assert_close(feature_grad, wide.grad.float(), atol=1e-5, rtol=1e-4)
    stepped = adagrad(rows.detach(), rows.grad, [rows.grad]).float()
    torch.testing.assert_close(head.rows_ND, stepped, atol=1e-4, rtol=1e-4)
    stepped = adagrad(bias.detach()[:, None], bias.grad[:, None], [bias.grad[:, None]])[:, 0].float()
    torch.testing.assert_close(head.bias_N, stepped, atol=1e-4, rtol=1e-4)
    assert not list(head.parameters()), "nothing as large as the matrix is kept beside it"


def test_sampled_rival_computes_what_a_worker_computes(setting, truth):
    head = SampledHead(setting)
    offsets, tags = truth
    counts = np.asarray(setting.counts_N)
    matrix = TagMatrix.create(
        N, D, config=setting.config, counts=counts, marginal=setting.marginal_N, item_offsets=offsets, item_tags=tags
    )
    matrix.rows_ND[:] = head.rows.weight.detach().numpy()
    np.testing.assert_allclose(matrix.bias_N, head.bias.weight.detach()[:, 0].numpy(), rtol=1e-6)
    pos_ids, pos_offsets, _ = head.draw(ITEMS)
    features, engine, losses, grads = features_of(len(ITEMS)), WideEngine(matrix, setting.config), [], []
    for number, start in enumerate(range(0, len(ITEMS), setting.config.chunk_size)):
        stop = min(start + setting.config.chunk_size, len(ITEMS))
        first, last = pos_offsets[start], pos_offsets[stop]
        chunk = Chunk(
            step=0,
            chunk=number,
            seed=setting.seed,
            features_BD=features[start:stop].numpy().copy(),
            pos_ids=pos_ids[first:last].astype(np.int32),
            pos_offsets=(pos_offsets[start : stop + 1] - first).astype(np.int32),
            pos_weights=None,
            items_B=ITEMS[start:stop],
            true_ids=None,
            true_offsets=None,
            num_negatives=setting.config.negatives,
            row_lr=0.0,
            update=False,
        )
        reply = engine.apply(chunk)
        losses.append(reply.loss_B.sum())
        grads.append(reply.feature_grad_BD.copy())
    matrix.close()
    loss_sum, feature_grad = head.learn(features, ITEMS)
    assert loss_sum.item() == pytest.approx(sum(losses), rel=1e-5)
    np.testing.assert_allclose(feature_grad.numpy(), np.concatenate(grads), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rival", RIVALS.values(), ids=RIVALS)
def test_rivals_learn_and_rank_what_is_true(setting, truth, rival):
    head, features = rival(setting), features_of(len(ITEMS)) * 3
    first = head.learn(features, ITEMS)[0].item()
    for _ in range(60):
        last = head.learn(features, ITEMS)[0].item()
    assert last < 0.7 * first
    rows, bias = head.for_ranking()
    assert np.isneginf(bias[np.asarray(setting.counts_N) == 0]).all()
    best = (features.numpy() @ rows.T + bias).argmax(1)
    targets = dense_targets(truth).numpy()
    has_tags = targets.sum(1) > 0
    assert targets[np.arange(len(ITEMS)), best][has_tags].all()


def test_micro_batches_of_the_rival_pipeline_add_up_to_the_gradient_of_the_mean_loss(setting):
    images, rivals = features_of(len(ITEMS)), []
    for cuts in ([0, 7], [0, 4, 7]):
        torch.manual_seed(0)
        trunk, head = nn.Linear(D, D), DenseHead(setting)
        head.row_lr = 0.0
        pipeline = RivalPipeline(TrunkPasses(trunk, torch.float32), head, timer=PhaseTimer())
        parts = [MicroBatch(images[i:j], ItemNumbers(ITEMS[i:j])) for i, j in itertools.pairwise(cuts)]
        pipeline.accumulate(parts)
        rivals.append(trunk.weight.grad)
    torch.testing.assert_close(rivals[0], rivals[1])


def test_true_tags_of_repeated_and_untagged_items(truth):
    offsets, tags = truth
    example, tag = TrueTags(offsets, tags, torch.device("cpu")).of(ITEMS)
    expected = [(b, t) for b, i in enumerate(ITEMS) for t in tags[offsets[i] : offsets[i + 1]].tolist()]
    assert list(zip(example.tolist(), tag.tolist(), strict=True)) == expected
