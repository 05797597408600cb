"""Trainings whose passes and optimizer steps are recorded are those of trainings that are not, whatever happens."""

import copy

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from hybrid import WideHead
from hybrid.cuda_graphs import GraphedPasses
from hybrid.graph_place import WARM_UPS
from hybrid.optimizer_step import OptimizerStep, make_optimizer
from hybrid.trainer import Trainer
from hybrid.trunk_passes import TrunkPasses
from launch.config import TrainConfig
from tests.simulated_card import simulated_card  # noqa: F401  -- a fixture

SIDE, D, B = 8, 8, 6
RECORDED = 2 * WARM_UPS + 1
"""Steps after which passes and optimizer are recorded."""
on_a_card = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


class Trunk(nn.Module):
    """With a convolution, a norm, a weight that is used twice, one that is frozen and none that is unused."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 7, 3, 2, 1, bias=False).to(memory_format=torch.channels_last)
        self.norm = nn.BatchNorm2d(7)
        self.inner = nn.Linear(7, 7)
        self.frozen = nn.Parameter(torch.ones(7), requires_grad=False)
        self.last = nn.Linear(7, D)

    def forward(self, images):
        pooled = torch.relu(self.norm(self.convolution(images))).mean((2, 3)) * self.frozen
        return self.last(torch.tanh(self.inner(torch.tanh(self.inner(pooled)))))


class Training:
    """A loop as `Trainer` has it, on gradients of features that are made up."""

    def __init__(self, is_recorded, device="cpu"):
        torch.manual_seed(0)
        self.trunk = Trunk().to(device)
        self.device = device
        self.passes = (GraphedPasses if is_recorded else TrunkPasses)(self.trunk, None)
        self.step_of = OptimizerStep(make_optimizer(self.trunk, TrainConfig()), 0.5)
        self.number = 0
        self.kept = []

    @property
    def optimizer(self):
        return self.step_of.optimizer

    def step(self, sizes=(B, B - 1), passes=1, between=lambda training: None):
        self.number += 1
        generator = torch.Generator().manual_seed(self.number)
        for group in self.optimizer.param_groups:
            group["lr"] = 0.02 / self.number
        self.optimizer.zero_grad(set_to_none=True)
        for _ in range(passes):
            between(self)
            images = [torch.randn(size, 3, SIDE, SIDE, generator=generator).to(self.device) for size in sizes]
            features = [self.passes.forward(one, number) for number, one in enumerate(images)]
            for number, one in enumerate(features):
                self.passes.backward(one, torch.randn(one.shape, generator=generator), number)
        self.step_of(self.passes.totals)


def step(training):
    training.step()


def partial_batch(training):
    training.step(sizes=(2, 1 + 1))


def one_microbatch(training):
    training.step(sizes=(B,))


def accumulated(training):
    training.step(passes=2)


def accumulated_on_other_objects(training):
    training.step(passes=2, between=replace_gradient)


def accumulated_on_others_numbers(training):
    training.step(passes=2, between=fill_gradients)


def new_state(training):
    training.optimizer.load_state_dict(copy.deepcopy(training.optimizer.state_dict()))


def same_state(training):
    training.optimizer.load_state_dict(training.optimizer.state_dict())


def other_settings(training):
    training.optimizer.param_groups[0]["weight_decay"] += 0.1


def other_clip(training):
    training.step_of.clip_norm *= 0.5


def move(training):
    """As a user does who exports it: sets `.data` of weights and of gradients."""
    training.trunk.double().float()


def other_layout(training):
    training.trunk.convolution.to(memory_format=torch.contiguous_format)


def freeze(training):
    training.trunk.inner.bias.requires_grad_(False)


def thaw(training):
    training.trunk.inner.bias.requires_grad_(True)


def replace_gradient(training):
    weight = training.trunk.last.weight
    if weight.grad is not None:
        weight.grad = weight.grad.detach()


def fill_gradients(training):
    for p in training.trunk.parameters():
        if p.grad is not None:
            p.grad.data = torch.ones_like(p)


def evaluate(training):
    training.trunk.eval()


def train(training):
    training.trunk.train()


EVENTS = [
    step,
    partial_batch,
    one_microbatch,
    accumulated,
    accumulated_on_other_objects,
    accumulated_on_others_numbers,
    new_state,
    same_state,
    other_settings,
    other_clip,
    move,
    other_layout,
    freeze,
    thaw,
    replace_gradient,
    fill_gradients,
    evaluate,
    train,
]


def assert_same(training, twin, what):
    for (name, own), other in zip(training.trunk.state_dict().items(), twin.trunk.state_dict().values(), strict=True):
        torch.testing.assert_close(own, other, msg=lambda text, name=name: f"{name} after {what}: {text}")
    states = [one.optimizer.state_dict()["state"] for one in (training, twin)]
    assert states[0].keys() == states[1].keys()
    for index, entries in states[0].items():
        for key, value in entries.items():
            torch.testing.assert_close(value, states[1][index][key], msg=lambda t, key=key: f"{key} after {what}: {t}")


def follow(events, device="cpu"):
    """Both trainings, step by step; returns that which is recorded."""
    training, twin = Training(True, device), Training(False, device)
    for number, event in enumerate(events):
        for one in (training, twin):
            event(one)
        assert_same(training, twin, f"{number}. {event.__name__}")
    return training


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_a_recorded_training_goes_on_like_another_after(simulated_card, event):  # noqa: F811
    training = follow([step] * (RECORDED + 1) + [event] + [step] * (RECORDED + 1))
    assert training.step_of._place.graph is not None
    assert training.step_of._place.graph._graph.num_replays > 0
    assert all(place.graph._backward.num_replays > 0 for place in training.passes._places.values())


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.just(step), st.sampled_from(EVENTS)), max_size=25))
def test_any_history_leaves_weights_as_without_recording(simulated_card, history):  # noqa: F811
    follow([step] * 4 + history)


def test_a_recorded_trainer_learns_what_another_does(simulated_card):  # noqa: F811
    """Trunk, pipeline, real workers and optimizer together; what is recorded replays."""
    generator = torch.Generator().manual_seed(1)
    sizes = [16] * (RECORDED + 3) + [10, 16, 16]
    batches = [
        (torch.randn(size, 3, SIDE, SIDE, generator=generator), [[i % 40] for i in range(size)]) for size in sizes
    ]
    weights = []
    for cuda_graphs in (False, True):
        torch.manual_seed(0)
        with WideHead(num_tags=50, dim=D, workers=1, negatives=8, seed=3) as head:
            config = TrainConfig(batch_size=16, epochs=1)
            trainer = Trainer(
                Trunk(), head, config, num_items=sum(sizes), device="cpu", precision="float32", cuda_graphs=cuda_graphs
            )
            trainer.fit(batches)
            assert trainer.uses_cuda_graphs is cuda_graphs
            weights.append({name: tensor.clone() for name, tensor in trainer.trunk.state_dict().items()})
    torch.testing.assert_close(weights[0], weights[1])
    optimizer_step = simulated_card[-1]
    assert optimizer_step.num_replays == len(sizes) - (RECORDED - 1) - 1  # the partial batch is not replayed


@on_a_card
@pytest.mark.parametrize("event", [step, partial_batch, new_state, same_state, move, fill_gradients])
def test_on_a_card_a_recorded_training_goes_on_like_another_after(event):
    def cut(training):
        event(training)

    cut.__name__ = event.__name__
    training = follow([step] * (RECORDED + 1) + [cut] + [step] * (RECORDED + 1), "cuda")
    assert training.step_of._place.graph is not None
