"""A trunk's passes, operation by operation."""

import pytest
import torch
from torch import nn

from hybrid.trunk_passes import TrunkPasses, beside

D = 8


def test_backward_adds_to_the_gradients_that_are_there():
    trunk = nn.Linear(6, D)
    passes, images, grad = TrunkPasses(trunk, None), torch.randn(5, 6), torch.randn(5, D)
    for _ in range(2):
        passes.backward(passes.forward(images, 0), grad, 0)
    torch.testing.assert_close(trunk.weight.grad, 2 * grad.T @ images)


def test_features_of_a_frozen_trunk_need_no_gradient():
    trunk = nn.Linear(6, D).requires_grad_(False)
    passes = TrunkPasses(trunk, None)
    passes.backward(passes.forward(torch.randn(5, 6), 0), torch.randn(5, D), 0)
    assert trunk.weight.grad is None


@pytest.mark.parametrize("precision, dtype", [(torch.float32, torch.float32), (torch.bfloat16, torch.bfloat16)])
def test_precision_decides_whatever_autocast_is_around(precision, dtype):
    passes = TrunkPasses(nn.Linear(6, D), precision)
    for is_around in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=is_around):
            assert passes.forward(torch.randn(5, 6), 0).dtype == dtype


def test_no_precision_leaves_autocast_to_the_caller():
    passes = TrunkPasses(nn.Linear(6, D), None)
    with torch.autocast("cpu", torch.bfloat16):
        assert passes.forward(torch.randn(5, 6), 0).dtype == torch.bfloat16
    assert passes.forward(torch.randn(5, 6), 0).dtype == torch.float32


def test_gradients_on_the_cpu_are_not_copied():
    grad = torch.randn(5, D)
    assert beside(torch.zeros(5, D), grad) is grad


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_gradients_go_to_cuda_from_pinned_memory(monkeypatch, dtype):
    pinned, to = [], torch.Tensor.to
    monkeypatch.setattr(
        torch.Tensor, "to", lambda tensor, *a, **k: pinned.append(tensor.is_pinned()) or to(tensor, *a, **k)
    )
    grad = torch.randn(5, D)
    got = beside(torch.zeros(5, D, dtype=dtype, device="cuda"), grad)
    assert pinned == [True, False] and got.dtype == dtype and torch.equal(got.cpu(), grad.to(dtype))
