"""The pipeline: micro-batches around the workers give what doing them one after the other gives."""

import copy
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import hybrid.pipeline
from hybrid.head import WideHead
from hybrid.micro_batch import MicroBatch
from hybrid.phases import PhaseTimer
from hybrid.pipeline import Pipeline
from hybrid.tag_batch import read_tags
from workers.errors import ChunkError, ConfigError

N, D, SIDE = 60, 8, 6
SIZES = ([12], [6, 6], [6, 3, 3], [7, 4, 1], [5, 5, 1, 1])
"""Examples of each micro-batch; chunks have 3."""


def make_head(**changes):
    settings = {"negatives": 12, "chunk_size": 3, "init_scale": 1.0, "row_lr": 0.05}
    return WideHead(num_tags=N, dim=D, workers=1, positives=2, **{**settings, **changes})


@pytest.fixture(scope="module")
def still_head():
    """Its rows do not move, so that any number of tests can share it."""
    with make_head(row_lr=0.0) as head:
        yield head


def plain_trunk():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 16), nn.Tanh(), nn.Linear(16, D))


def normed_trunk():
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(96, D), nn.LayerNorm(D)
    )


def make_parts(sizes, seed=0):
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    tags = [rng.choice(N, rng.integers(0, 5), replace=False).tolist() for _ in range(sum(sizes))]
    images = torch.randn(sum(sizes), 3, SIDE, SIDE)
    starts = np.cumsum([0, *sizes])
    return [MicroBatch(images[i:j], tags[i:j]) for i, j in itertools.pairwise(starts)]


def through_pipeline(trunk, head, parts, precision=torch.float32):
    timer = PhaseTimer()
    loss = Pipeline(trunk, head, precision=precision, timer=timer).accumulate(parts)
    return loss, timer.take(step=0)


def one_after_the_other(trunk, head, parts):
    """The same chunks without any overlap: each micro-batch is finished before the next one starts."""
    num_examples, first_chunk, loss_sum = sum(len(part) for part in parts), 0, 0.0
    for part in parts:
        features = trunk(part.inputs)
        ticket = head.submit(features.detach().numpy(), part.tags, update=True, first_chunk=first_chunk)
        result = head.collect(ticket)
        features.backward(torch.from_numpy(result.feature_grad_BD) / num_examples)
        loss_sum += float(result.loss_B.sum())
        first_chunk += -(-len(features) // head.config.chunk_size)
    head.step += 1
    return loss_sum / num_examples


def state_of(trunk):
    """Gradients, and buffers such as running means."""
    return [p.grad for p in trunk.parameters()] + list(trunk.buffers())


@pytest.mark.parametrize("make_trunk", [plain_trunk, normed_trunk])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_trunk_gradients_are_those_of_micro_batches_in_order(still_head, make_trunk, sizes):
    trunk = make_trunk()
    parts, twin = make_parts(sizes), copy.deepcopy(trunk)
    still_head.step = 7
    loss, _ = through_pipeline(trunk, still_head, parts)
    still_head.step = 7
    assert loss == one_after_the_other(twin, still_head, parts)
    for got, expected in zip(state_of(trunk), state_of(twin), strict=True):
        assert torch.equal(got, expected)
    assert any(p.grad.abs().max() > 1e-3 for p in trunk.parameters())


def test_rows_that_learn_meanwhile_are_those_of_micro_batches_in_order():
    """With one worker there is no race: after three steps all rows agree to the bit."""
    trunk = normed_trunk()
    twin, outcomes = copy.deepcopy(trunk), []
    for run, net in ((lambda *given: through_pipeline(*given)[0], trunk), (one_after_the_other, twin)):
        with make_head() as head:
            losses = [run(net, head, make_parts([5, 3, 4], seed)) for seed in range(3)]
            outcomes.append((losses, head.matrix.rows_ND.tobytes(), head.matrix.tag_state_N4.tobytes(), head.step))
    assert outcomes[0] == outcomes[1]
    for got, expected in zip(state_of(trunk), state_of(twin), strict=True):
        assert torch.equal(got, expected)


def test_one_micro_batch_that_is_given_twice_counts_as_two_of_its_kind():
    """In one step and in two, where a graph made its inputs, too: each time it has draws of its own."""
    outcomes = []
    for is_one_object in (True, False):
        torch.manual_seed(0)
        (part,), trunk, maker = make_parts([4]), plain_trunk(), nn.Parameter(torch.ones(3, 1, 1))
        with make_head() as head:
            losses = []
            for _ in range(2):
                parts = [MicroBatch(part.inputs * maker, part.tags) for _ in range(2)]
                if is_one_object:
                    losses.append(through_pipeline(trunk, head, [parts[0]] * 2)[0])
                else:
                    losses.append(one_after_the_other(trunk, head, parts))
            grads = [maker.grad, *(p.grad for p in trunk.parameters())]
            outcomes.append((losses, head.matrix.rows_ND.tobytes(), grads))
    (losses, rows, grads), (expected_losses, expected_rows, expected_grads) = outcomes
    assert losses == expected_losses and rows == expected_rows
    torch.testing.assert_close(grads, expected_grads)


def test_cuts_along_chunks_do_not_matter_without_batch_norm(still_head):
    trunk, grads, losses = plain_trunk(), [], []
    for sizes in ([12], [6, 6], [3, 6, 3], [3, 3, 3, 3]):
        trunk.zero_grad()
        still_head.step = 2
        losses.append(through_pipeline(trunk, still_head, make_parts(sizes))[0])
        grads.append(torch.cat([p.grad.flatten() for p in trunk.parameters()]))
    np.testing.assert_allclose(losses, losses[0], rtol=1e-6)
    for grad in grads[1:]:
        torch.testing.assert_close(grad, grads[0], rtol=0, atol=1e-6 * float(grads[0].abs().max()))


def test_every_chunk_of_every_step_draws_its_own_numbers(still_head, monkeypatch):
    """Two chunks with one number would draw the same negatives."""
    seen, submit = [], still_head.router.submit
    monkeypatch.setattr(
        still_head.router, "submit", lambda chunks: seen.extend((c.step, c.chunk) for c in chunks) or submit(chunks)
    )
    still_head.step = 0
    for sizes in SIZES:
        through_pipeline(plain_trunk(), still_head, make_parts(sizes))
    assert len(set(seen)) == len(seen) == sum(-(-size // 3) for sizes in SIZES for size in sizes)
    assert {step for step, _ in seen} == set(range(len(SIZES)))


def recorded(monkeypatch, trunk, head):
    """The order in which the trunk computes, ships and collects."""
    events = []
    draw, ship, collect = head.draw, head.ship, head.collect
    trunk.register_forward_pre_hook(lambda *_: events.append("forward"))
    monkeypatch.setattr(head, "draw", lambda *a, **k: events.append("draw") or draw(*a, **k))
    monkeypatch.setattr(head, "ship", lambda *a, **k: events.append("ship") or ship(*a, **k))
    monkeypatch.setattr(head, "collect", lambda *a, **k: events.append("collect") or collect(*a, **k))
    return events


def test_everything_is_shipped_before_the_trunk_waits(still_head, monkeypatch):
    trunk = plain_trunk()
    events = recorded(monkeypatch, trunk, still_head)
    _, seconds = through_pipeline(trunk, still_head, make_parts([4, 4, 4]))
    assert events == ["forward", "draw", "ship"] * 3 + ["collect"] * 3
    assert set(seconds) == {"forward", "ship", "wait", "backward", "other"}


def test_where_copies_take_time_the_next_forward_pass_is_queued_first(still_head, monkeypatch):
    """The order on CUDA, with copies that only claim to be slow; the numbers stay the same. Draws wait for no copy."""
    trunk = plain_trunk()
    twin, parts = copy.deepcopy(trunk), make_parts([4, 4, 4])
    still_head.step = 3
    through_pipeline(twin, still_head, parts)
    monkeypatch.setattr(hybrid.pipeline._Departure, "is_almost_ready", lambda departure: False)
    events = recorded(monkeypatch, trunk, still_head)
    still_head.step = 3
    through_pipeline(trunk, still_head, parts)
    later = ["forward", "ship", "draw"]
    assert events == ["forward", "draw", *later, *later, "ship", "collect", "collect", "collect"]
    for got, expected in zip(state_of(trunk), state_of(twin), strict=True):
        assert torch.equal(got, expected)


@pytest.mark.parametrize("is_slow_copy", [False, True])
def test_nan_features_of_a_later_micro_batch_leave_nothing_in_flight(still_head, monkeypatch, is_slow_copy):
    monkeypatch.setattr(hybrid.pipeline._Departure, "is_almost_ready", lambda departure: not is_slow_copy)
    monkeypatch.setattr(still_head.router, "service", lambda: None)  # no answer is taken in before the error
    trunk, parts = plain_trunk(), make_parts([4, 4, 4])
    parts[2].inputs.fill_(torch.nan)
    with pytest.raises(ChunkError, match="NaN or infinity in example 0"):
        through_pipeline(trunk, still_head, parts)
    assert still_head.router.num_in_flight == 0
    monkeypatch.undo()
    assert np.isfinite(through_pipeline(trunk, still_head, make_parts([6, 6]))[0])


def test_gradients_add_up_over_calls(still_head):
    trunk, parts = plain_trunk(), make_parts([6, 6])
    still_head.step = 1
    through_pipeline(trunk, still_head, parts)
    once = [p.grad.clone() for p in trunk.parameters()]
    still_head.step = 1
    through_pipeline(trunk, still_head, parts)
    for p, grad in zip(trunk.parameters(), once, strict=True):
        torch.testing.assert_close(p.grad, 2 * grad)


def test_bfloat16_autocast_stays_near_float32(still_head):
    trunk = normed_trunk()
    twin, parts = copy.deepcopy(trunk), make_parts([6, 6])
    still_head.step = 1
    exact, _ = through_pipeline(trunk, still_head, parts)
    still_head.step = 1
    rounded, _ = through_pipeline(twin, still_head, parts, torch.bfloat16)
    assert rounded == pytest.approx(exact, rel=0.05) and rounded != exact


def test_a_frozen_trunk_trains_rows():
    trunk = plain_trunk().requires_grad_(False)
    with make_head() as head:
        before = head.matrix.rows_ND.copy()
        loss, _ = through_pipeline(trunk, head, make_parts([6, 6]))
        assert np.isfinite(loss) and (head.matrix.rows_ND != before).any()
    assert all(p.grad is None for p in trunk.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_cuda_gives_what_the_cpu_gives(still_head, sizes):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    trunk, parts = normed_trunk(), make_parts(sizes)
    twin = copy.deepcopy(trunk).cuda()
    still_head.step = 4
    loss, _ = through_pipeline(trunk, still_head, parts)
    still_head.step = 4
    on_cuda, _ = through_pipeline(twin, still_head, [MicroBatch(part.inputs.cuda(), part.tags) for part in parts])
    assert on_cuda == pytest.approx(loss, rel=1e-5)
    for got, expected in zip(state_of(twin), state_of(trunk), strict=True):
        torch.testing.assert_close(got.cpu(), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("microbatches", [1, 2, 4])  # whole chunks of 3, which draw alike
def test_backward_is_a_plain_loops_forward_and_backward(still_head, microbatches):
    images, tags = torch.randn(12, 3, SIDE, SIDE), [[b, b + 20] for b in range(12)]
    torch.manual_seed(0)
    trunk = plain_trunk()
    twin, still_head.step = copy.deepcopy(trunk), 5
    loss = Pipeline(trunk, still_head).backward(images, tags, microbatches)
    still_head.step = 5
    expected = still_head(twin(images), tags)
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    for ours, theirs in zip(state_of(trunk), state_of(twin), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_a_loss_scale_reaches_the_trunk_alone():
    images, tags = torch.randn(8, 3, SIDE, SIDE), [[b] for b in range(8)]
    torch.manual_seed(0)
    trunk, moved = plain_trunk(), []
    twin = copy.deepcopy(trunk)
    for one, scale in ((trunk, 1.0), (twin, 1024.0)):
        with make_head() as head:
            loss = Pipeline(one, head).backward(images, tags, loss_scale=scale)
            moved.append((loss, head.matrix.rows_ND.copy()))
    assert moved[0][0] == moved[1][0] and np.array_equal(moved[0][1], moved[1][1])
    for plain, scaled in zip(trunk.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(1024 * plain.grad, scaled.grad)


@pytest.mark.parametrize(("is_enabled", "factor"), [(True, 65536.0), (False, 1.0)])
def test_steps_of_a_grad_scaler_are_those_without_one(still_head, is_enabled, factor):
    """Also where two calls make one step, each with half of the loss."""
    torch.manual_seed(0)
    trunk, batches = plain_trunk(), [(torch.randn(6, 3, SIDE, SIDE), [[b, b + 30] for b in range(6)])] * 2
    start, twin, scaler = copy.deepcopy(trunk), copy.deepcopy(trunk), torch.amp.GradScaler("cpu", enabled=is_enabled)
    for one, given in ((trunk, {"scaler": scaler}), (twin, {})):
        optimizer, still_head.step = torch.optim.SGD(one.parameters(), lr=0.1), 3
        for _ in range(2):
            optimizer.zero_grad()
            for images, tags in batches:
                Pipeline(one, still_head).backward(images, tags, loss_scale=0.5, **given)
            if given:
                assert scaler.get_scale() == factor
                scaler.step(optimizer)
                scaler.update()
            else:
                optimizer.step()
    for ours, theirs, first in zip(trunk.parameters(), twin.parameters(), start.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
        assert not torch.equal(ours, first)


def test_a_grad_scaler_makes_its_scale_where_the_trunk_is(still_head):
    asked = []
    scaler = SimpleNamespace(scale=lambda one: asked.append(one.device.type) or torch.tensor(8.0))
    pipeline = Pipeline(nn.Linear(2, D, device="meta"), still_head)
    assert pipeline._scale_of(scaler, torch.ones(4, 2)) == 8.0 and asked == ["meta"]


def test_the_callers_autocast_holds_unless_a_precision_is_given(still_head):
    seen = []
    trunk = plain_trunk()
    trunk[1].register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    images, tags = torch.randn(4, 3, SIDE, SIDE), [[1], [2], [3], [4]]
    with torch.autocast("cpu", torch.bfloat16):
        Pipeline(trunk, still_head).backward(images, tags, 1)
        Pipeline(trunk, still_head, precision=torch.float32).backward(images, tags, 1)
    assert seen == [torch.bfloat16, torch.float32]


def test_backward_on_a_head_in_evaluation_mode_is_refused(still_head):
    still_head.eval()
    try:
        with pytest.raises(ConfigError, match=r"head.training = False, .* call head.train"):
            Pipeline(plain_trunk(), still_head).backward(torch.randn(2, 3, SIDE, SIDE), [[1], [2]])
    finally:
        still_head.train()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"microbatches": 0}, "microbatches = 0"),
        ({"microbatches": torch.ones(2)}, "microbatches = tensor.*must be a whole number"),
        ({"loss_scale": 0.0}, "loss_scale = 0.0"),
        ({"loss_scale": float("inf")}, "loss_scale = inf"),
        ({"loss_scale": float("nan")}, "loss_scale = nan"),
    ],
)
def test_numbers_that_train_nothing_are_refused(still_head, changes, told):
    with pytest.raises(ConfigError, match=told):
        Pipeline(plain_trunk(), still_head).backward(torch.randn(2, 3, SIDE, SIDE), [[1], [2]], **changes)


@pytest.mark.parametrize("num_parts", [0, 1, 2])
def test_micro_batches_without_an_example_are_refused_before_anything_moves(still_head, num_parts):
    step, images = still_head.step, torch.empty(0, 3, SIDE, SIDE)
    parts = [MicroBatch(images, read_tags([], still_head.num_tags, 0, "images"))] * num_parts
    with pytest.raises(ConfigError, match="examples of all micro-batches = 0, but it must be at least 1"):
        Pipeline(plain_trunk(), still_head).accumulate(parts)
    assert still_head.step == step and still_head.router.num_in_flight == 0


def test_backward_without_grad_mode_is_refused(still_head):
    with torch.no_grad(), pytest.raises(ConfigError, match="grad mode"):
        Pipeline(plain_trunk(), still_head).backward(torch.randn(2, 3, SIDE, SIDE), [[1], [2]])


@pytest.mark.parametrize("shape", [(3, D), (5, D), (4, D + 4), (4,)])
def test_features_of_other_examples_than_were_drawn_for_are_refused(still_head, shape):
    drawn = still_head.draw((4, D), [[1], [2], [3], [4]], update=True)
    with pytest.raises(ChunkError, match=rf"features_BD: got shape .*expected \[4, {D}\], for which tags were drawn"):
        still_head.ship(drawn, np.zeros(shape, np.float32))
    assert still_head.router.num_in_flight == 0
