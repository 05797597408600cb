"""What a recorded pass is made of, with a recorder that runs at once in the place of a card's."""

import gc
from collections import defaultdict
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from hybrid.grad_totals import GradTotals
from hybrid.pass_graph import PassGraph
from hybrid.recording import Recorder
from hybrid.trunk_passes import TrunkPasses
from workers.errors import ConfigError

B, INPUTS, D = 5, 6, 8


@pytest.fixture
def no_card(monkeypatch):
    """Recording runs at once, with a feature gradient of ones; the card has 1,000 bytes; notes replays, in order."""
    replayed, streams = [], iter(range(100))

    class Graph:
        def replay(self):
            replayed.append(self)

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device, priority: next(streams))
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 7))
    sizes = [(200, (0, 7)), (5, (0, 0)), (100, (0, 7))]
    segments = [{"total_size": size, "segment_pool_id": pool} for size, pool in sizes]
    monkeypatch.setattr(torch.cuda, "memory_snapshot", lambda: segments)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 8000))
    monkeypatch.setattr(Recorder, "recorded", lambda recorder, graph: nullcontext())
    monkeypatch.setattr("hybrid.recording._free_streams", defaultdict(list))
    monkeypatch.setattr(torch, "empty_like", torch.ones_like)
    return replayed


def record(passes, images):
    return PassGraph(passes, images, GradTotals([p for p in passes.trunk.parameters() if p.requires_grad]))


def test_replays_are_of_the_images_and_the_gradient_that_are_given(no_card):
    trunk = nn.Linear(INPUTS, D)
    graph = record(TrunkPasses(trunk, None), torch.randn(B, INPUTS))
    images, grad = torch.randn(B, INPUTS), torch.randn(B, D)
    graph.forward(images)
    assert no_card == [graph._forward] and torch.equal(graph._inputs, images)
    graph.backward(grad)
    assert no_card == [graph._forward, graph._backward] and torch.equal(graph._grad_BD, grad)


class OfTwo(nn.Module):
    """Two inputs that must not change places."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(INPUTS, D), nn.Linear(INPUTS, D)

    def forward(self, left, right):
        return self.first(left) - self.second(right)


@pytest.mark.parametrize(
    "form", [lambda a, b: (a, b), lambda a, b: {"right": b, "left": a}], ids=["by place", "by name"]
)
def test_several_inputs_are_recorded_and_replayed_each_in_its_place(no_card, form):
    trunk, (left, right) = OfTwo(), torch.randn(2, B, INPUTS)
    graph = record(TrunkPasses(trunk, None), form(left, right))
    torch.testing.assert_close(graph.features_BD, trunk(left, right).detach())
    graph.forward(form(left + 1, right + 2))
    copied = graph._inputs if isinstance(graph._inputs, tuple) else (graph._inputs["left"], graph._inputs["right"])
    assert torch.equal(copied[0], left + 1) and torch.equal(copied[1], right + 2)


def test_no_two_graphs_that_live_have_one_stream(no_card):
    passes = TrunkPasses(nn.Linear(INPUTS, D), None)
    graphs = [record(passes, torch.randn(B, INPUTS)) for _ in range(3)]
    assert [graph._recorder._stream for graph in graphs] == [0, 1, 2]
    del graphs[1]
    graphs += [record(passes, torch.randn(B, INPUTS)) for _ in range(2)]
    assert [graph._recorder._stream for graph in graphs] == [0, 2, 1, 3]


def test_no_garbage_is_collected_while_a_pass_is_recorded(no_card, monkeypatch):
    seen = []
    monkeypatch.setattr(Recorder, "recorded", lambda *graph: seen.append(gc.isenabled()) or nullcontext())
    record(TrunkPasses(nn.Linear(INPUTS, D), None), torch.randn(B, INPUTS))
    assert seen == [False, False] and gc.isenabled()


class Tied(nn.Module):
    """A weight used twice, one not at all, one frozen."""

    def __init__(self):
        super().__init__()
        self.first, self.again = nn.Linear(INPUTS, D), nn.Linear(INPUTS, D)
        self.again.weight = self.first.weight
        self.again.bias.requires_grad_(False)
        self.unused = nn.Parameter(torch.ones(3))
        self.norm = nn.BatchNorm1d(D)

    def forward(self, images):
        return self.norm(self.first(images) * torch.tanh(self.again(images)))


def test_gradients_are_those_of_autograd_and_of_the_right_weights(no_card):
    trunk, images = Tied(), torch.randn(B, INPUTS)
    graph = record(TrunkPasses(trunk, None), images)
    assert all(parameter.grad is None for parameter in trunk.parameters()), "recording adds nothing"
    totals = graph._totals
    recorded = {id(p): totals.part(i).clone() for i, p in enumerate(totals.parameters)}
    features = graph.forward(images)
    assert not features.requires_grad
    graph.backward(torch.ones(B, D))
    parts = {id(p): totals.part(i) for i, p in enumerate(totals.parameters)}
    given = {name for name, p in trunk.named_parameters() if p.grad is not None and p.grad is parts[id(p)]}
    trunk.zero_grad(set_to_none=True)
    expected = trunk(images)
    torch.testing.assert_close(features, expected)
    expected.sum().backward()
    plain = {name: p for name, p in trunk.named_parameters() if p.grad is not None}
    assert given == plain.keys() == {"first.weight", "first.bias", "norm.weight", "norm.bias"}
    for p in plain.values():
        torch.testing.assert_close(recorded[id(p)], p.grad)
    assert (graph.num_bytes, graph.num_free_bytes) == (300, 1000)


def test_a_frozen_trunk_has_no_backward_pass(no_card):
    trunk = nn.Linear(INPUTS, D).requires_grad_(False)
    graph = record(TrunkPasses(trunk, None), torch.randn(B, INPUTS))
    graph.backward(torch.ones(B, D))
    assert trunk.weight.grad is None


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float32, None], ids=str)
def test_a_recording_computes_in_the_precision_of_ordinary_passes(no_card, precision):
    trunk, images = nn.Linear(INPUTS, D), torch.randn(B, INPUTS)
    passes = TrunkPasses(trunk, precision)
    for is_around in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=is_around):
            expected = passes.forward(images, 0)
            features = record(passes, images).features_BD
        assert features.dtype == expected.dtype
        torch.testing.assert_close(features, expected.detach())


def test_weights_are_cast_inside_the_recording(no_card):
    """Casts that autocast keeps from before would be those of old weights in every replay."""
    trunk, images = nn.Linear(INPUTS, D), torch.randn(B, INPUTS)
    with torch.autocast("cpu", torch.bfloat16):
        trunk(images)
        with torch.no_grad():
            trunk.weight.mul_(2)
        features = record(TrunkPasses(trunk, None), images).features_BD
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(features, trunk(images).detach())


def register(trunk):
    trunk.weight.register_hook(lambda grad: grad.clamp(-1, 1))


def register_after(trunk):
    trunk.weight.register_post_accumulate_grad_hook(lambda parameter: None)


@pytest.mark.parametrize("hook", [register, register_after])
def test_hooks_on_gradients_are_refused(no_card, hook):
    trunk = nn.Sequential(nn.Linear(INPUTS, D))
    hook(trunk[0])
    with pytest.raises(ConfigError, match=r"0\.weight has a hook.*--cuda-graphs off"):
        record(TrunkPasses(trunk, None), torch.randn(B, INPUTS))


class Hiding(nn.Module):
    """Reaches a weight that one of its modules has, or that none has, through a list."""

    def __init__(self, is_of_a_module):
        super().__init__()
        self.layer = nn.Linear(INPUTS, D)
        self.hidden = [self.layer.bias if is_of_a_module else nn.Parameter(torch.ones(D))]

    def forward(self, images):
        return nn.functional.linear(images, self.layer.weight) + self.hidden[0]


@pytest.mark.parametrize(("is_of_a_module", "what"), [(True, r"layer\.bias"), (False, r"a tensor of shape \[8\]")])
def test_weights_that_a_recording_would_not_teach_are_refused(no_card, is_of_a_module, what):
    with pytest.raises(ConfigError, match=f"{what} learns in the trunk's forward"):
        record(TrunkPasses(Hiding(is_of_a_module), None), torch.randn(B, INPUTS))
