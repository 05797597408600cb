"""Weights of examples, from a call to the rows: against autograd, through pipeline and trainer."""

import copy

import numpy as np
import pytest
import torch
from test_head import TAGS, D, N, assert_close, make_features, make_head, parameters_of
from torch import nn
from torch_reference import reference_step

from hybrid import Pipeline, TrainConfig, Trainer
from workers.config import OBJECTIVES, TRANSPORTS
from workers.errors import DataError

WEIGHTS = [0.5, 2.0, 0.0, 1.0, 0.25]


@pytest.fixture(scope="module")
def still_head():
    with make_head(row_lr=0.0) as head:
        yield head


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_loss_gradient_and_rows_are_those_of_autograd(objective, transport):
    with make_head(objective=objective, transport=transport) as head:
        for step in range(3):
            features = make_features(seed=step).requires_grad_(True)
            expected = reference_step(head, features, TAGS, lr=0.1, example_weights=WEIGHTS)
            loss = head(features, TAGS, example_weights=torch.tensor(WEIGHTS))
            loss.backward()
            assert loss.item() == pytest.approx(expected.loss, rel=1e-5)
            assert_close(features.grad, expected.feature_grad_BD)
            assert not features.grad[2].any() and features.grad[3].any()
            assert_close(head.matrix.rows_ND, expected.rows_ND)
            assert_close(head.matrix.bias_N, expected.bias_N)


@pytest.mark.parametrize(
    "mask",
    [
        [True, True, False, True, True],
        np.array([1, 1, 0, 1, 1], np.float64),
        torch.tensor([1, 1, 0, 1, 1]).bool(),
        torch.tensor([1, 1, 0, 1, 1], dtype=torch.bfloat16),
    ],
    ids=["list", "float64", "tensor", "bfloat16"],
)
def test_a_mask_leaves_examples_out(still_head, mask):
    features = make_features().requires_grad_(True)
    expected = reference_step(still_head, features, TAGS, lr=0.0, example_weights=[1.0, 1.0, 0.0, 1.0, 1.0])
    loss = still_head(features, TAGS, example_weights=mask)
    loss.backward()
    assert loss.item() == pytest.approx(expected.loss, rel=1e-5)
    assert_close(features.grad, expected.feature_grad_BD)


def test_nothing_learns_from_a_batch_that_is_masked_whole():
    trunk = nn.Linear(6, D)
    twin = copy.deepcopy(trunk)
    with make_head() as head:
        before = parameters_of(head)
        config = TrainConfig(batch_size=5, epochs=60, weight_decay=0.0)
        trainer = Trainer(trunk, head, config, num_items=5, device="cpu")
        trainer.fit(iter([(torch.randn(5, 6), TAGS, [0.0] * 5)] * 3))
        assert parameters_of(head) == before and trainer.progress.step == 3
        assert all(map(torch.equal, trunk.parameters(), twin.parameters()))
        trainer.step(torch.randn(5, 6), TAGS, [0.0, 0.0, 0.0, 0.0, 1.0])
        assert parameters_of(head) != before
        assert not any(map(torch.equal, trunk.parameters(), twin.parameters()))


def test_weights_may_change_once_they_are_drawn_with(still_head):
    weights = np.ones(5, np.float32)
    drawn = still_head.draw((5, D), TAGS, update=False, example_weights=weights)
    weights[:] = 0
    assert still_head.collect(still_head.ship(drawn, make_features().numpy())).loss_B.all()


@pytest.mark.parametrize("microbatches", [1, 2])
def test_each_part_of_a_batch_has_its_own(still_head, microbatches):
    """Six examples are two chunks of three, whether they are cut there or not."""
    torch.manual_seed(0)
    trunk, inputs, tags, weights = nn.Linear(6, D), torch.randn(6, 6), [*TAGS, [2]], [*WEIGHTS, 3.0]
    twin = copy.deepcopy(trunk)
    still_head.step = 4
    loss = Pipeline(trunk, still_head).backward(inputs, tags, microbatches, example_weights=weights)
    still_head.step = 4
    expected = still_head(twin(inputs), tags, example_weights=weights)
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-6)
    assert_close(trunk.weight.grad, twin.weight.grad)


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ([1, 2, 3, 4, 5], r"example_weights are int64 of shape \(5,\); expected floats of shape \(5,\)"),
        ([0.5] * 4, r"float64 of shape \(4,\); expected floats of shape \(5,\)"),
        (torch.ones(5, 1), r"float32 of shape \(5, 1\)"),
        (0.5, r"float64 of shape \(\)"),
        ([1.0, -1.0, 1.0, 1.0, 1.0], r"example_weights has -1\.0 for example 1; expected numbers from 0 to 1e\+06"),
        (np.array([1, 1, 1, 1, np.nan]), "example_weights has nan for example 4"),
        (np.array([1, 1, 1e39, 1, 1]), r"example_weights has 1e\+39 for example 2"),
        ([[1.0], [1.0, 2.0]], r"example_weights cannot be read as floats of shape \(5,\)"),
        (torch.ones(5).to_sparse(), "example_weights cannot be read as floats"),
    ],
    ids=str,
)
@pytest.mark.parametrize("is_training", [True, False])
def test_weights_that_are_none_are_refused_before_anything_is_sent(still_head, weights, told, is_training):
    still_head.train(is_training)
    try:
        with pytest.raises(DataError, match=told):
            still_head(make_features(), TAGS, example_weights=weights)
    finally:
        still_head.train()
    assert still_head.router.num_in_flight == 0 and still_head.num_tags == N
