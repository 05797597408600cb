"""Recorded optimizer steps move weights as those that are queued operation by operation."""

import copy
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from hybrid.grad_totals import GradTotals
from hybrid.graph_place import WARM_UPS
from hybrid.optimizer_step import OptimizerStep
from hybrid.recording import Recorder
from hybrid.trainer import make_optimizer
from launch.config import TrainConfig

CLIP = 0.5
on_a_card = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


@pytest.fixture
def no_card(monkeypatch):
    """Replays run what was recorded; notes recordings and replays."""
    seen = []

    class Graph:
        def replay(self):
            seen.append("replay")

    def recorded(recorder, graph):
        seen.append("record")
        return nullcontext()

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device, priority: None)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 7))
    monkeypatch.setattr(Recorder, "recorded", recorded)
    monkeypatch.setattr(Recorder, "drain", lambda recorder: seen.append("drain"))
    return seen


class Training:
    """A trunk with an optimizer, and gradients that are the same for the same step."""

    def __init__(self, device="cpu"):
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)).to(device)
        self.step_of = OptimizerStep(self.trunk, make_optimizer(self.trunk, TrainConfig(weight_decay=0.1)), CLIP)
        self.totals = GradTotals(list(self.trunk.parameters()))
        self.number = 0

    def step(self, in_places=True, lr=0.01):
        generator = torch.Generator().manual_seed(self.number)
        self.number += 1
        grads = [torch.randn(p.shape, generator=generator).to(p.device) for p in self.trunk.parameters()]
        self.step_of.optimizer.zero_grad(set_to_none=True)
        for group in self.step_of.optimizer.param_groups:
            group["lr"] = lr
        if in_places:
            numbers = range(len(grads))
            self.totals.add(numbers, lambda: [self.totals.places[i].add_(grads[i]) for i in numbers])
        else:
            for p, grad in zip(self.trunk.parameters(), grads, strict=True):
                p.grad = grad
        self.step_of(self.totals if in_places else None)

    def steps(self, count, **how):
        for _ in range(count):
            self.step(**how)


def recorded_training(**how):
    """After its first replay; the first step makes the optimizer's state."""
    training = Training()
    training.steps(1, in_places=False)
    training.steps(WARM_UPS + 1, **how)
    return training


def test_a_step_clips_all_gradients_together_and_moves_weights():
    training, twin = Training(), Training()
    training.step(in_places=False, lr=0.3)
    generator = torch.Generator().manual_seed(0)
    grads = [torch.randn(p.shape, generator=generator) for p in twin.trunk.parameters()]
    norm = torch.sqrt(sum((grad**2).sum() for grad in grads))
    assert norm > CLIP
    for p, own, grad in zip(training.trunk.parameters(), twin.trunk.parameters(), grads, strict=True):
        torch.testing.assert_close(p.grad, grad * CLIP / norm)
        kept = own * (1 - 0.3 * 0.1) if own.ndim >= 2 else own  # the first step of Adam is as long as its rate
        torch.testing.assert_close(p, kept - 0.3 * grad.sign(), rtol=1e-4, atol=1e-4)


def test_a_step_is_recorded_when_gradients_lay_in_their_places_for_long_enough(no_card):
    training = Training()
    training.steps(3, in_places=False)
    assert no_card == []
    training.step()
    training.steps(WARM_UPS - 1)
    assert no_card == []
    training.step()
    assert no_card == ["record", "replay"]
    training.step(in_places=False)
    assert no_card == ["record", "replay"]
    training.step()
    assert no_card == ["record", "replay", "replay"]


def test_a_recording_leaves_the_optimizers_settings_as_they_were(no_card):
    training = recorded_training(lr=0.25)
    groups = training.step_of.optimizer.param_groups
    assert "record" in no_card
    assert [(group["lr"], group["capturable"]) for group in groups] == [(0.25, False)] * 2
    assert [float(lr) for lr in training.step_of._place.graph._lrs] == [0.25] * 2
    training.step(lr=0.125)
    assert [float(lr) for lr in training.step_of._place.graph._lrs] == [0.125] * 2


def change_settings(training):
    training.step_of.optimizer.param_groups[0]["weight_decay"] = 0.7


def load_state(training):
    training.step_of.optimizer.load_state_dict(copy.deepcopy(training.step_of.optimizer.state_dict()))


def move_weight(training):
    weight = training.trunk[0].weight
    weight.data = weight.data.clone()


def other_places(training):
    training.totals = GradTotals(list(training.trunk.parameters()))


@pytest.mark.parametrize("change", [change_settings, load_state, move_weight, other_places])
def test_what_a_recording_takes_for_granted_makes_a_new_one_when_it_changes(no_card, change):
    training = recorded_training()
    training.step()
    assert no_card == ["record", "replay", "replay"]
    change(training)
    training.steps(2)
    assert no_card[3:] == ["drain"]
    training.step()
    assert no_card[4:] == ["record", "replay"]


def test_an_optimizer_with_a_hook_is_asked_each_time(no_card):
    training, calls = recorded_training(), []
    training.step_of.optimizer.register_step_pre_hook(lambda *of: calls.append(of))
    training.steps(2)
    assert no_card == ["record", "replay"] and len(calls) == 2


def test_without_room_for_a_recording_steps_are_queued_singly(monkeypatch, no_card):
    def fail(recorder, graph):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB")

    monkeypatch.setattr(Recorder, "recorded", fail)
    told = []
    training, twin = Training(), Training()
    training.step_of._tell = told.append
    training.steps(WARM_UPS + 3)
    twin.steps(WARM_UPS + 3, in_places=False)
    assert len(told) == 1 and "no room" in told[0] and "CUDA out of memory" in told[0]
    for p, own in zip(training.trunk.parameters(), twin.trunk.parameters(), strict=True):
        assert torch.equal(p, own)


@on_a_card
def test_recorded_steps_move_weights_as_others_do():
    training, twin = Training("cuda"), Training("cuda")
    for number in range(20):
        if number == 12:
            for one in (training, twin):
                load_state(one)
        lr = 0.01 / (1 + number)
        training.step(in_places=number != 8, lr=lr)
        twin.step(in_places=False, lr=lr)
        for p, own in zip(training.trunk.parameters(), twin.trunk.parameters(), strict=True):
            torch.testing.assert_close(p, own, rtol=1e-6, atol=1e-7)
    graph = training.step_of._place.graph
    assert graph is not None
    state, other = (one.step_of.optimizer.state_dict()["state"] for one in (training, twin))
    for index, entries in state.items():
        for key, value in entries.items():
            torch.testing.assert_close(value, other[index][key], rtol=1e-5, atol=1e-9)
