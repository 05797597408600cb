"""Recorded passes give what passes give that are queued operation by operation."""

import copy
import gc
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from hybrid.augment import Augmentation, Augmenter
from hybrid.cuda_graphs import GraphedPasses
from hybrid.data.store import DecodedImages
from hybrid.graph_place import WARM_UPS
from hybrid.prefetch import prefetched
from hybrid.trunk_passes import TrunkPasses
from hybrid.upload import Upload, arrived
from workers.errors import ConfigError

D, SIDE, B = 8, 6, 5
STEPS = WARM_UPS + 4
on_a_card = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


def make_trunk(*layers):
    torch.manual_seed(0)
    middle = layers or (nn.BatchNorm2d(16), nn.ReLU())
    trunk = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), *middle, nn.Flatten(), nn.Linear(16 * SIDE * SIDE, D))
    return trunk.cuda().to(memory_format=torch.channels_last)


def make_images(seed, size=B):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(size, 3, SIDE, SIDE, generator=generator).cuda()
    return images.contiguous(memory_format=torch.channels_last)


def make_grad(seed, size=B):
    return torch.randn(size, D, generator=torch.Generator().manual_seed(1000 + seed))


def step(passes, seed, sizes=(B, B)):
    """Forward of all micro-batches, then backward of all, as a pipeline does; returns a copy of the features."""
    seeds = [10 * seed + number for number in range(len(sizes))]
    features = [passes.forward(make_images(s, size), n) for n, (s, size) in enumerate(zip(seeds, sizes, strict=True))]
    copies = [one.detach().clone() for one in features]
    for number, (one, s, size) in enumerate(zip(features, seeds, sizes, strict=True)):
        passes.backward(one, make_grad(s, size), number)
    return copies


def graphs_of(passes):
    return [place.graph is not None for place in passes._places.values()]


def assert_same_state(trunk, twin):
    for (name, ours), theirs in zip(trunk.state_dict().items(), twin.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}")
    for (name, ours), (_, theirs) in zip(trunk.named_parameters(), twin.named_parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None), name
        if ours.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4)


@pytest.fixture(autouse=True)
def _exact_products():
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


class Scaled(nn.Module):
    """Takes two inputs, by name."""

    def __init__(self):
        super().__init__()
        self.linear, self.other = nn.Linear(6, D), nn.Linear(6, D)

    def forward(self, left, right):
        return self.linear(left) * torch.tanh(self.other(right))


@on_a_card
def test_inputs_by_name_are_replayed_each_in_its_place():
    trunk = Scaled().cuda()
    twin = copy.deepcopy(trunk)
    passes, plain = GraphedPasses(trunk, None), TrunkPasses(twin, None)
    for seed in range(STEPS):
        torch.manual_seed(seed)
        left, right = torch.randn(2, B, 6).cuda()
        for one, inputs in ((passes, {"left": left, "right": right}), (plain, {"right": right, "left": left})):
            one.trunk.zero_grad()
            one.backward(one.forward(inputs, 0), make_grad(seed), 0)
        assert_same_state(trunk, twin)
        for ours, theirs in zip(trunk.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad)
    assert graphs_of(passes) == [True]


@on_a_card
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16, None], ids=str)
def test_training_with_graphs_is_training_without(precision):
    trunk = make_trunk()
    twin = copy.deepcopy(trunk)
    ours, theirs = GraphedPasses(trunk, precision), TrunkPasses(twin, precision)
    optimizers = [torch.optim.AdamW(one.parameters(), lr=0.01, fused=True) for one in (trunk, twin)]
    for seed in range(STEPS):
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        for got, expected in zip(step(ours, seed), step(theirs, seed), strict=True):
            assert got.dtype == expected.dtype
            torch.testing.assert_close(got, expected, rtol=0.02, atol=0.02)
        if precision != torch.bfloat16:
            assert_same_state(trunk, twin)
        for optimizer in optimizers:
            optimizer.step()
    assert graphs_of(ours) == [True, True]


@on_a_card
def test_gradients_of_several_passes_add_up():
    trunk = make_trunk()
    twin = copy.deepcopy(trunk)
    ours, theirs = GraphedPasses(trunk, None), TrunkPasses(twin, None)
    for seed in range(STEPS):  # never set to zero
        step(ours, seed)
        step(theirs, seed)
        assert_same_state(trunk, twin)
    assert graphs_of(ours) == [True, True]


@on_a_card
def test_a_smaller_batch_between_runs_without_a_graph():
    trunk = make_trunk()
    twin = copy.deepcopy(trunk)
    ours, theirs = GraphedPasses(trunk, None), TrunkPasses(twin, None)
    for seed, sizes in enumerate([(B, B)] * STEPS + [(B, 2)] + [(B, B)] * 2 + [(3,)]):
        step(ours, seed, sizes)
        step(theirs, seed, sizes)
        assert_same_state(trunk, twin)


@on_a_card
def test_a_caller_s_autocast_is_that_of_the_recording():
    trunk = make_trunk()
    passes = GraphedPasses(trunk, None)
    for seed in range(STEPS):
        with torch.autocast("cuda", torch.bfloat16):
            features, _ = step(passes, seed)
        assert features.dtype == torch.bfloat16
        with torch.no_grad():
            trunk[0].weight.mul_(0.5)
    with torch.autocast("cuda", torch.bfloat16):
        expected = trunk(make_images(10 * STEPS))
        features, _ = step(passes, STEPS)
    torch.testing.assert_close(features, expected, rtol=0.02, atol=0.02)
    assert graphs_of(passes) == [True, True]
    features, _ = step(passes, 0)  # another form: no graph is replayed
    assert features.dtype == torch.float32


@on_a_card
def test_a_graph_draws_anew_each_time():
    trunk = make_trunk(nn.Dropout(0.5))
    passes = GraphedPasses(trunk, None)
    for _ in range(STEPS):
        step(passes, 0)
    first, second = (step(passes, 0)[0] for _ in range(2))
    assert graphs_of(passes) == [True, True] and not torch.equal(first, second)


@on_a_card
def test_weights_that_lie_elsewhere_are_recorded_again():
    trunk = make_trunk()
    passes = GraphedPasses(trunk, None)
    for seed in range(STEPS):
        step(passes, seed)
    for parameter in trunk.parameters():
        parameter.data = 2 * parameter.data
    twin = copy.deepcopy(trunk)
    theirs = TrunkPasses(twin, None)
    trunk.zero_grad(), twin.zero_grad()
    for seed in range(STEPS):
        step(passes, seed)
        step(theirs, seed)
        assert_same_state(trunk, twin)
    assert graphs_of(passes) == [True, True]


@on_a_card
def test_what_is_frozen_later_gets_no_gradient():
    trunk = make_trunk()
    passes = GraphedPasses(trunk, None)
    for seed in range(STEPS):
        step(passes, seed)
    trunk[0].requires_grad_(False)
    trunk.zero_grad(set_to_none=True)
    for seed in range(STEPS):
        step(passes, seed)
    assert trunk[0].weight.grad is None and trunk[-1].weight.grad is not None
    trunk.requires_grad_(False).zero_grad(set_to_none=True)
    for seed in range(STEPS):
        step(passes, seed)
    assert all(parameter.grad is None for parameter in trunk.parameters()) and graphs_of(passes) == [True, True]


@on_a_card
def test_evaluation_mode_of_a_module_is_another_form():
    trunk = make_trunk()
    twin = copy.deepcopy(trunk)
    ours, theirs = GraphedPasses(trunk, None), TrunkPasses(twin, None)
    for seed in range(2 * STEPS):
        if seed == STEPS:
            trunk[1].eval(), twin[1].eval()
        step(ours, seed)
        step(theirs, seed)
        assert_same_state(trunk, twin)


_ASKING = """
import torch
from torch import nn
from hybrid.augment import Augmentation, Augmenter
from hybrid.cuda_graphs import GraphedPasses
from workers.errors import ConfigError

class Asking(nn.Module):
    def forward(self, maps):
        return maps * (2.0 if maps.mean().item() > 0 else 0.5)

passes = GraphedPasses(nn.Sequential(nn.Linear(6, 8), Asking()).cuda(), None)
images = torch.randn(4, 6).cuda()
try:
    for _ in range(5):
        passes.backward(passes.forward(images, 0), torch.ones(4, 8), 0)
except ConfigError as e:
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    print(e)
"""


@on_a_card
def test_a_trunk_that_asks_the_card_for_a_value_is_refused():
    """In a process of its own: torch's random numbers on the card do not recover."""
    done = subprocess.run([sys.executable, "-c", _ASKING], capture_output=True, text=True, timeout=100)
    assert "cannot be recorded" in done.stdout and "captur" in done.stdout and "--cuda-graphs off" in done.stdout, done


@on_a_card
@pytest.mark.parametrize("greedy_size", [B, 3], ids=["the first place", "the second place"])
def test_where_memory_is_short_passes_run_one_by_one(monkeypatch, greedy_size):
    told, trunk = [], make_trunk()
    passes, twin = GraphedPasses(trunk, None, told.append), copy.deepcopy(trunk)
    theirs, forward = TrunkPasses(twin, None), nn.Flatten.forward

    def greedy(layer, maps):
        if torch.cuda.is_current_stream_capturing() and len(maps) == greedy_size:
            torch.empty(2**50, dtype=torch.uint8, device="cuda")
        return forward(layer, maps)

    monkeypatch.setattr(nn.Flatten, "forward", greedy)
    for seed in range(2 * STEPS):
        step(passes, seed, (B, 3))
        step(theirs, seed, (B, 3))
        assert_same_state(trunk, twin)
    assert len(told) == 1 and "memory" in told[0] and not graphs_of(passes)
    torch.rand(3, device="cuda")  # random numbers are drawn as before
    monkeypatch.undo()
    other = GraphedPasses(make_trunk(), None)
    for seed in range(STEPS):
        step(other, seed)
    assert graphs_of(other) == [True, True]


@on_a_card
def test_a_gradient_for_the_images_is_not_lost():
    passes = GraphedPasses(make_trunk(), None)
    for seed in range(STEPS):
        images = make_images(seed).requires_grad_()
        passes.backward(passes.forward(images, 0), make_grad(seed), 0)
        assert images.grad is not None and images.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("wrap", "expected"),
    [
        (lambda trunk: trunk, "a trunk on cpu: graphs are of one card"),
        (lambda trunk: nn.Flatten(), "a trunk on cpu: graphs are of one card"),
        (lambda trunk: nn.Sequential(nn.BatchNorm1d(6, device="meta"), trunk), "a trunk on cpu and meta"),
        (lambda trunk: trunk.compile() or trunk, "a compiled trunk"),
        (lambda trunk: nn.Sequential(torch.compile(trunk)), "a compiled trunk"),
        (lambda trunk: nn.Sequential(nn.DataParallel(trunk), nn.ReLU()), "DataParallel"),
    ],
    ids=["on the cpu", "no weights", "two devices", "compiled in place", "compiled inside", "several cards inside"],
)
def test_only_a_card_of_its_own_has_graphs(wrap, expected):
    with pytest.raises(ConfigError, match=f"cuda_graphs = True, .*{expected}"):
        GraphedPasses(wrap(nn.Linear(6, D)), None)


class FakeGraph:
    """Runs what it stands for; has features of its own, as a graph does."""

    num_bytes = 100

    def __init__(self, passes, num_free_bytes):
        self.passes, self.replayed, self.num_free_bytes = TrunkPasses(passes.trunk, None), 0, num_free_bytes
        self.features_BD = self._inner = None
        self.kept = list(passes.trunk.parameters()), list(passes.trunk.modules())
        self.is_drained = False

    def drain(self):
        self.is_drained = True

    def forward(self, images):
        self.replayed += 1
        self._inner = self.passes.forward(images, 0)
        self.features_BD = self._inner.detach()
        return self.features_BD

    def backward(self, grad_BD):
        self.passes.backward(self._inner, grad_BD, 0)


@pytest.fixture
def fake_passes(monkeypatch):
    """On the CPU, with a list of what was told and recorded; a batch of 3 finds no memory, one of 7 leaves little."""
    told, recorded = [], []

    def record(passes, images, totals):
        if len(images) == 3:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate a lot.")
        recorded.append(len(images))
        return FakeGraph(passes, 199 if len(images) == 7 else 200)

    monkeypatch.setattr("hybrid.cuda_graphs.check", lambda *claim: None)
    monkeypatch.setattr("hybrid.cuda_graphs.PassGraph", record)
    return GraphedPasses(nn.Linear(6, D), None, told.append), told, recorded


def run_steps(passes, sizes, steps):
    """Each micro-batch adds its number of examples to the bias's gradient."""
    for _ in range(steps):
        features = [passes.forward(torch.ones(size, 6), number) for number, size in enumerate(sizes)]
        for number, one in enumerate(features):
            passes.backward(one, torch.ones(sizes[number], D), number)


def test_each_place_is_recorded_once_after_its_warm_ups(fake_passes):
    passes, told, recorded = fake_passes
    run_steps(passes, (4, 5), STEPS)
    assert recorded == [4, 5] and not told
    assert [place.graph.replayed for place in passes._places.values()] == [STEPS - WARM_UPS] * 2
    assert torch.equal(passes.trunk.bias.grad, torch.full((D,), 9.0 * STEPS))


def test_a_form_that_comes_once_is_not_recorded_and_one_that_stays_replaces(fake_passes):
    passes, _, recorded = fake_passes
    for size, steps in ((4, STEPS), (2, 1), (4, 1), (2, WARM_UPS), (4, 1), (5, STEPS), (4, WARM_UPS)):
        graph = passes._places[0].graph if passes._places else None
        run_steps(passes, (size,), steps)
        assert graph is None or graph.is_drained is (steps > 1), "a form that comes once costs no graph"
    assert recorded == [4, 5]
    assert torch.equal(passes.trunk.bias.grad, torch.full((D,), 4.0 * STEPS + 2 + 4 + 2 * WARM_UPS + 4 + 5 * STEPS + 8))


def test_no_gradient_is_lost_where_memory_is_short_in_the_midst_of_a_step(fake_passes):
    passes, told, recorded = fake_passes
    run_steps(passes, (4, 3, 5), STEPS)
    assert recorded == [4] and len(told) == 1 and told[0].endswith("CUDA out of memory")
    assert torch.equal(passes.trunk.bias.grad, torch.full((D,), 12.0 * STEPS))
    assert not graphs_of(passes), "what they took is given back: passes without graphs need it"


def test_graphs_beside_which_no_other_pass_would_fit_are_given_back(fake_passes):
    passes, told, recorded = fake_passes
    run_steps(passes, (4, 7), STEPS)
    assert recorded == [4, 7] and len(told) == 1 and "200 bytes, 199 are left" in told[0]
    assert not graphs_of(passes)
    assert torch.equal(passes.trunk.bias.grad, torch.full((D,), 11.0 * STEPS))


def test_inputs_on_the_host_are_refused_for_a_replay_would_not_see_what_is_read_of_them(monkeypatch):
    with monkeypatch.context() as for_a_moment:
        for_a_moment.setattr("hybrid.cuda_graphs.check", lambda *claim: None)
        passes = GraphedPasses(nn.Linear(6, D), None)
    with pytest.raises(ConfigError, match="cuda_graphs = True, but it must be False with inputs on cpu and meta"):
        passes.forward((torch.ones(4, 6, device="meta"), torch.ones(4)), 0)


def test_images_that_want_a_gradient_get_it(fake_passes):
    passes, _, recorded = fake_passes
    for _ in range(STEPS):
        images = torch.ones(4, 6, requires_grad=True)
        passes.backward(passes.forward(images, 0), torch.ones(4, D), 0)
        assert torch.allclose(images.grad, passes.trunk.weight.sum(0).expand(4, 6))
    assert not recorded


@pytest.mark.parametrize(
    ("error", "cause", "expected"),
    [
        ("CUDA error: operation failed due to a previous error", "not permitted when stream is capturing", "(.item()"),
        ("CUDA error: operation failed due to a previous error", "CUDA out of memory. Tried", "short of memory"),
        ("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate", None, "short of memory"),
        ("one of a kind", None, "one of a kind. Does"),
    ],
)
def test_what_cannot_be_recorded_says_what_ended_it(fake_passes, monkeypatch, error, cause, expected):
    passes, *_ = fake_passes

    def fail(passes, images, totals):
        try:
            if cause:
                raise RuntimeError(cause)
        finally:
            raise RuntimeError(error)

    monkeypatch.setattr("hybrid.cuda_graphs.PassGraph", fail)
    with pytest.raises(ConfigError, match=re.escape(cause or error)) as e:
        run_steps(passes, (4,), STEPS)
    assert expected in str(e.value) and "--cuda-graphs off" in str(e.value)


def test_another_state_of_the_trunk_is_another_form(fake_passes):
    passes, _, recorded = fake_passes
    run_steps(passes, (4,), STEPS)
    for change in (
        lambda trunk: trunk.weight.requires_grad_(False),
        lambda trunk: trunk.eval(),
        lambda trunk: setattr(trunk.weight, "data", trunk.weight.data.clone()),
        lambda trunk: setattr(trunk, "weight", nn.Parameter(trunk.weight.detach())),
        lambda trunk: setattr(trunk, "more", nn.Identity()),
        lambda trunk: trunk.bias.register_hook(lambda grad: grad),
    ):
        change(passes.trunk)
        graph = passes._places[0].graph
        run_steps(passes, (4,), 1)
        assert passes._places[0].graph is graph and not graph.is_drained
        run_steps(passes, (4,), WARM_UPS - 1)
        assert passes._places[0].graph is None and graph.is_drained and graph.replayed == STEPS - WARM_UPS
        run_steps(passes, (4,), STEPS - WARM_UPS)
    assert recorded == [4] * 7


@on_a_card
def test_a_recorded_trunk_goes_on_when_another_is_gone():
    """A workspace that both used would lie in the memory of the first."""
    first, trunk = GraphedPasses(make_trunk(), None), make_trunk()
    passes, twin = GraphedPasses(trunk, None), copy.deepcopy(trunk)
    theirs = TrunkPasses(twin, None)
    for seed in range(STEPS):
        step(first, seed)
        step(passes, seed)
        step(theirs, seed)
    assert graphs_of(first) == graphs_of(passes) == [True, True]
    del first
    torch.cuda.empty_cache()
    kept = torch.full((2**26,), float("nan"), device="cuda")  # lies where what was given back lay
    for seed in range(STEPS):
        step(passes, seed)
        step(theirs, seed)
        assert_same_state(trunk, twin)
    assert kept.isnan().all()


@on_a_card
@pytest.mark.parametrize("is_recorded", [False, True])
def test_batches_arrive_while_passes_are_recorded(is_recorded):
    device = torch.device("cuda")
    augmenter = Augmenter(Augmentation(), SIDE, 0, device)
    if is_recorded:
        pictures = DecodedImages(np.zeros((1, 64, 64, 4), dtype=np.uint8), np.zeros(1, dtype=np.int64))
        augmenter.record(pictures, B, pytest.fail)
    passes, upload = GraphedPasses(make_trunk(), None), Upload(device, augmenter)

    def batches():
        for number in range(50):
            yield upload.send(upload.empty((B, 64, 64, 4))), number

    for images, number in arrived(prefetched(batches())):
        passes.backward(passes.forward(images, 0), make_grad(number), 0)
    assert graphs_of(passes) == [True]


@on_a_card
def test_trunks_that_are_gone_leave_no_memory_taken():
    """As a stream for each recording would: cuBLAS keeps a workspace for each stream."""

    def taken():
        passes = GraphedPasses(make_trunk(), None)
        for seed in range(STEPS):
            step(passes, seed)
        assert graphs_of(passes) == [True, True]
        del passes
        gc.collect()
        return torch.cuda.memory_allocated()

    first = taken()
    assert max(taken() for _ in range(4)) < first + 2**20
