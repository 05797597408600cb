"""When an optimizer's step is recorded; that it then moves weights as before is in test_graphed_training."""

import copy

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.optimizer import register_optimizer_step_post_hook

from hybrid.grad_totals import GradTotals
from hybrid.graph_place import WARM_UPS
from hybrid.optimizer_step import OptimizerStep, make_optimizer
from hybrid.recording import Recorder
from launch.config import TrainConfig
from tests.simulated_card import simulated_card  # noqa: F401  -- a fixture
from workers.errors import ConfigError

CLIP = 0.5


class Training:
    """A trunk with an optimizer, and gradients that are the same for the same step."""

    def __init__(self):
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))
        self.told = []
        optimizer = make_optimizer(self.trunk, TrainConfig(weight_decay=0.1))
        self.step_of = OptimizerStep(optimizer, CLIP, self.told.append)
        self.totals = GradTotals(list(self.trunk.parameters()))
        self.number = 0

    @property
    def optimizer(self):
        return self.step_of.optimizer

    def step(self, in_totals=True, lr=0.01):
        generator = torch.Generator().manual_seed(self.number)
        self.number += 1
        grads = [torch.randn(p.shape, generator=generator) for p in self.trunk.parameters()]
        self.trunk.zero_grad(set_to_none=True)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        if in_totals:
            numbers = range(len(grads))
            self.totals.add(numbers, lambda: [self.totals.part(i).add_(grads[i]) for i in numbers])
        else:
            for p, grad in zip(self.trunk.parameters(), grads, strict=True):
                p.grad = grad
        self.step_of(self.totals if in_totals else None)

    def steps(self, count, **how):
        for _ in range(count):
            self.step(**how)


def recorded_training(**how):
    """After its first replay; the first step makes the optimizer's state."""
    training = Training()
    training.steps(1, in_totals=False)
    training.steps(WARM_UPS + 1, **how)
    return training


def replays(graphs):
    return [graph.num_replays for graph in graphs]


def test_a_step_clips_all_gradients_together_and_moves_weights():
    training, twin = Training(), Training()
    training.step(in_totals=False, lr=0.3)
    generator = torch.Generator().manual_seed(0)
    grads = [torch.randn(p.shape, generator=generator) for p in twin.trunk.parameters()]
    norm = torch.sqrt(sum((grad**2).sum() for grad in grads))
    assert norm > CLIP
    for p, own, grad in zip(training.trunk.parameters(), twin.trunk.parameters(), grads, strict=True):
        torch.testing.assert_close(p.grad, grad * CLIP / norm)
        kept = own * (1 - 0.3 * 0.1) if own.ndim >= 2 else own  # the first step of Adam is as long as its rate
        torch.testing.assert_close(p, kept - 0.3 * grad.sign(), rtol=1e-4, atol=1e-4)


def test_a_step_is_recorded_when_gradients_lay_in_totals_for_long_enough(simulated_card):  # noqa: F811
    training = Training()
    training.steps(3, in_totals=False)
    training.steps(WARM_UPS)
    assert replays(simulated_card) == []
    training.step()
    assert replays(simulated_card) == [1]
    p = next(training.trunk.parameters())
    p.register_hook(lambda grad: None)  # of a gradient that autograd makes; here none is
    training.step()
    assert replays(simulated_card) == [2]


def test_where_gradients_no_longer_lie_in_totals_a_recording_is_given_back(simulated_card):  # noqa: F811
    training = recorded_training()
    assert training.step_of._place.graph is not None
    training.step(in_totals=False)
    assert training.step_of._place.graph is None and replays(simulated_card) == [1]


def test_a_recording_leaves_the_optimizers_settings_as_they_were(simulated_card):  # noqa: F811
    training = recorded_training(lr=0.25)
    assert replays(simulated_card) == [1]
    assert [(group["lr"], group["capturable"]) for group in training.optimizer.param_groups] == [(0.25, False)] * 2
    training.step(lr=0.125)
    assert [float(lr) for lr in training.step_of._place.graph._lrs] == [0.125] * 2


def change_settings(training):
    training.optimizer.param_groups[0]["weight_decay"] = 0.7


def change_clipping(training):
    training.step_of.clip_norm = 0.1


def load_state(training):
    training.optimizer.load_state_dict(copy.deepcopy(training.optimizer.state_dict()))


def move_weight(training):
    weight = training.trunk[0].weight
    weight.data = weight.data.clone()


def other_totals(training):
    training.totals = GradTotals(list(training.trunk.parameters()))


CHANGES = [change_settings, change_clipping, load_state, move_weight, other_totals]


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_recording_takes_for_granted_makes_a_new_one_when_it_changes(simulated_card, change):  # noqa: F811
    training = recorded_training()
    change(training)
    training.steps(WARM_UPS)
    assert replays(simulated_card) == [1] and training.step_of._place.graph is None
    training.step()
    assert replays(simulated_card) == [1, 1]


def hook(training, calls):
    return training.optimizer.register_step_pre_hook(lambda *of: calls.append(of))


def hook_of_all(training, calls):
    return register_optimizer_step_post_hook(lambda *of: calls.append(of))


@pytest.mark.parametrize("add", [hook, hook_of_all])
def test_an_optimizer_with_a_hook_is_asked_each_time(simulated_card, add):  # noqa: F811
    training, calls = recorded_training(), []
    handle = add(training, calls)
    training.steps(2)
    handle.remove()
    assert replays(simulated_card) == [1] and len(calls) == 2
    training.step()
    assert replays(simulated_card) == [2] and len(calls) == 2


def test_an_optimizer_that_a_scheduler_counts_is_asked_each_time(simulated_card):  # noqa: F811
    training = recorded_training()
    scheduler = LambdaLR(training.optimizer, lambda step: 1.0)
    training.step()
    scheduler.step()
    assert replays(simulated_card) == [1]


def test_with_a_gradient_elsewhere_the_step_is_not_replayed(simulated_card):  # noqa: F811
    training, more = recorded_training(), nn.Parameter(torch.ones(3))
    training.optimizer.add_param_group({"params": [more]})
    for number in range(WARM_UPS + 3):
        more.grad = torch.full((3,), 0.1)
        before = more.detach().clone()
        training.step()
        assert not torch.equal(more, before), number
    assert replays(simulated_card) == [1]
    more.grad = None
    training.steps(WARM_UPS + 1)
    assert replays(simulated_card) == [1, 1]


def test_without_room_for_a_recording_steps_are_queued_singly(simulated_card, monkeypatch):  # noqa: F811
    def fail(recorder, graph):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB")

    monkeypatch.setattr(Recorder, "recorded", fail)
    training, twin = Training(), Training()
    training.steps(WARM_UPS + 3)
    twin.steps(WARM_UPS + 3, in_totals=False)
    (said,) = training.told
    assert "no room" in said and "the optimizer's step" in said and "CUDA out of memory" in said
    for p, own in zip(training.trunk.parameters(), twin.trunk.parameters(), strict=True):
        assert torch.equal(p, own)


def test_a_step_that_cannot_be_recorded_is_an_error_with_advice(simulated_card, monkeypatch):  # noqa: F811
    def fail(recorder, graph):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(Recorder, "recorded", fail)
    training = Training()
    training.steps(1, in_totals=False)
    with pytest.raises(ConfigError, match=r"the optimizer's step cannot be recorded.*not permitted.*--cuda-graphs off"):
        training.steps(WARM_UPS + 1)
    assert [(group["lr"], group["capturable"]) for group in training.optimizer.param_groups] == [(0.01, False)] * 2
