"""The workers' gradient on its way into autograd."""

import pytest
import torch

from hybrid.loss_of_workers import LossOfWorkers


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_factor_on_the_loss_is_applied_before_the_gradient_is_rounded(dtype):
    """1e-9 is 0 in float16; times the 65,536 of a GradScaler it is not."""
    features_BD = torch.ones(2, 3, dtype=dtype, requires_grad=True)
    loss = LossOfWorkers.apply(features_BD, torch.tensor(4.0), torch.full((2, 3), 1e-9))
    assert loss.item() == 4.0
    (65536 * loss).backward()
    assert features_BD.grad.dtype == dtype
    torch.testing.assert_close(features_BD.grad.float(), torch.full((2, 3), 65536e-9), rtol=0.01, atol=0)


def test_second_derivatives_are_refused():
    features_BD = torch.ones(2, 3, requires_grad=True)
    loss = LossOfWorkers.apply(features_BD, torch.tensor(4.0), torch.ones(2, 3))
    with pytest.raises(RuntimeError, match=r"no second derivatives.*without create_graph"):
        torch.autograd.grad(loss, features_BD, create_graph=True)
    (grad_BD,) = torch.autograd.grad(loss, features_BD)
    assert torch.equal(grad_BD, torch.ones(2, 3))
