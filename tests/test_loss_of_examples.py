"""The loss of each example, of a head, a pipeline and a trainer: against autograd."""

import copy

import numpy as np
import pytest
import torch
from test_head import TAGS, D, assert_close, changes_nothing, first_loss, make_features, make_head
from torch import nn
from torch_reference import reference_step

from hybrid import Pipeline, TrainConfig, Trainer
from workers.config import OBJECTIVES
from workers.errors import ChunkError, ConfigError

WEIGHTS = [0.5, 2.0, 0.0, 1.0, 0.25]
MADE_OF = [1.0, -2.0, 0.5, 0.0, 3.0]
"""Factors of a sum of the losses."""
SEVEN = [*TAGS, [2], [4, 6]]
"""Chunks of three, three, one: as a whole, and as parts of three and four."""


@pytest.fixture(scope="module")
def head():
    with make_head() as head:
        yield head


@pytest.mark.parametrize("private_negatives", [False, True], ids=["shared", "private"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_losses_and_what_a_graph_makes_of_them_are_those_of_autograd_and_rows_learn_from_them_as_they_are(
    objective, private_negatives
):
    with make_head(objective=objective, private_negatives=private_negatives) as head:
        for step in range(2):
            features = make_features(seed=step).requires_grad_(True)
            expected = reference_step(head, features, TAGS, 0.1, example_weights=WEIGHTS, loss_grads=MADE_OF)
            loss_B = head(features, TAGS, example_weights=WEIGHTS, reduction="none")
            (loss_B @ torch.tensor(MADE_OF)).backward()
            assert loss_B.dtype == torch.float32 and loss_B.shape == (5,)
            assert_close(loss_B.detach(), expected.loss_B)
            assert_close(features.grad, expected.feature_grad_BD)
            assert_close(head.matrix.rows_ND, expected.rows_ND)
            assert_close(head.matrix.bias_N, expected.bias_N)


def test_losses_without_grad_mode_are_those_of_autograd_and_teach_nothing(head):
    expected = reference_step(head, make_features(), TAGS, lr=0.0)
    with changes_nothing(head), torch.no_grad():
        loss_B = first_loss(head, make_features(), TAGS, None, None, "none")
    assert_close(loss_B, expected.loss_B)
    assert not loss_B.requires_grad


def test_losses_of_a_frozen_trunk_and_of_no_examples_have_a_backward_pass(head):
    loss_B = head(make_features(), TAGS, reduction="none")
    loss_B.sum().backward()  # an unchanged loop must not fail here
    assert loss_B.shape == (5,)
    none = torch.zeros(0, D, requires_grad=True)
    head(none, [], reduction="none").sum().backward()
    assert none.grad.shape == (0, D)


def test_another_reduction_is_refused_before_anything_is_sent(head):
    with changes_nothing(head), pytest.raises(ConfigError, match="reduction = 'sum', but it must be one of mean, none"):
        head(make_features(), TAGS, reduction="sum")


@pytest.mark.parametrize("microbatches", [1, 2])
def test_a_pipeline_has_those_of_its_latest_step_in_the_order_of_the_batch(head, microbatches):
    torch.manual_seed(0)
    trunk, inputs, weights = nn.Linear(6, D), torch.randn(7, 6), [*WEIGHTS, 3.0, 1.0]
    pipeline = Pipeline(trunk, head)
    assert pipeline.loss_B.shape == (0,)
    for loss_scale in (1.0, 0.25):
        expected = reference_step(head, trunk(inputs), SEVEN, head.row_lr, example_weights=weights).loss_B
        loss = pipeline.backward(inputs, SEVEN, microbatches, loss_scale, example_weights=weights)
        assert_close(pipeline.loss_B, expected)
        assert pipeline.loss_B.mean().item() == pytest.approx(loss, rel=1e-6)
    before, inputs[6] = pipeline.loss_B, torch.nan
    with pytest.raises(ChunkError):
        pipeline.backward(inputs, SEVEN, microbatches)
    assert torch.equal(pipeline.loss_B, before)


def test_a_trainer_reports_those_of_a_step(head, monkeypatch):
    torch.manual_seed(0)
    trunk, inputs, weights = nn.Linear(6, D), torch.randn(7, 6), np.linspace(0, 2, 7)
    twin, reports = copy.deepcopy(trunk), []
    monkeypatch.setattr(head, "row_lr", 0.0)
    config = TrainConfig(batch_size=7, epochs=1)
    trainer = Trainer(trunk, head, config, num_items=7, device="cpu", precision="float32")
    expected = reference_step(head, twin(inputs), SEVEN, lr=0.0, example_weights=weights.tolist()).loss_B
    trainer.fit([(inputs, SEVEN, weights)], on_step=reports.append)
    assert len(reports) == 1
    assert_close(reports[0].loss_B, expected)
    assert reports[0].loss_B.mean().item() == pytest.approx(reports[0].loss, rel=1e-6)
