"""Gradients in memory that stays are those that backward passes leave."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hybrid.grad_totals import GradTotals


def make_trunk():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last), nn.Linear(5, 2).double(), nn.BatchNorm1d(6)
    return nn.ModuleList(layers)


def gradients_of(trunk, number):
    generator = torch.Generator().manual_seed(number)
    return [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in trunk.parameters()]


def add_as_backward(trunk, which, grads):
    for i, (p, grad) in enumerate(zip(trunk.parameters(), grads, strict=True)):
        if i in which:
            p.grad = grad.clone() if p.grad is None else p.grad + grad


def add_to_parts(totals, which, grads):
    totals.add(which, lambda: [totals.part(i).add_(grads[i]) for i in which])


NUM = len(list(make_trunk().parameters()))
PASS = st.lists(st.integers(0, NUM - 1), min_size=1, unique=True)
NONE, ZERO, OWN, ALL = "set to none", "set to zero", "replaced", "all"


@given(st.lists(st.one_of(PASS, st.sampled_from([NONE, ZERO, OWN, ALL])), max_size=8))
def test_whatever_becomes_of_gradients_between_passes_sums_are_those_of_backward(events):
    trunk = make_trunk()
    twin = copy.deepcopy(trunk)
    totals = GradTotals(list(trunk.parameters()))
    for number, event in enumerate(events):
        for one in (trunk, twin):
            parameters = list(one.parameters())
            if event in (NONE, ZERO):
                one.zero_grad(set_to_none=event == NONE)
            elif event == OWN:
                parameters[0].grad = torch.ones_like(parameters[0])
        if isinstance(event, list) or event == ALL:
            which = range(NUM) if event == ALL else event
            add_to_parts(totals, which, gradients_of(trunk, number))
            add_as_backward(twin, which, gradients_of(twin, number))
        for p, other in zip(trunk.parameters(), twin.parameters(), strict=True):
            assert (p.grad is None) == (other.grad is None)
            if p.grad is not None:
                torch.testing.assert_close(p.grad, other.grad)


def test_parts_are_laid_out_as_parameters_and_apart_from_each_other():
    trunk = make_trunk()
    totals = GradTotals(list(trunk.parameters()))
    for number, p in enumerate(trunk.parameters()):
        part = totals.part(number)
        assert (part.shape, part.stride(), part.dtype) == (p.shape, p.stride(), p.dtype)
        assert part.data_ptr() % 64 == totals.part(0).data_ptr() % 64
        part.fill_(number + 1)
    assert [totals.part(number).unique().tolist() for number in range(NUM)] == [[number + 1.0] for number in range(NUM)]


def test_a_part_whose_data_others_set_is_where_it_was():
    trunk = make_trunk()
    totals = GradTotals(list(trunk.parameters()))
    addresses = [totals.part(number).data_ptr() for number in range(NUM)]
    add_to_parts(totals, range(NUM), gradients_of(trunk, 0))
    trunk.to(torch.float16).to(torch.float32)
    assert not totals.hold_all()
    assert [totals.part(number).data_ptr() for number in range(NUM)] == addresses


def test_gradients_are_all_held_where_each_is_in_its_place():
    trunk = make_trunk()
    totals = GradTotals(list(trunk.parameters()))
    assert not totals.hold_all()
    add_to_parts(totals, range(NUM - 1), gradients_of(trunk, 0))
    assert not totals.hold_all()
    add_to_parts(totals, [NUM - 1], gradients_of(trunk, 1))
    assert totals.hold_all()
    trunk.zero_grad(set_to_none=False)
    assert totals.hold_all()
    p = next(trunk.parameters())
    p.grad = p.grad.clone()
    assert not totals.hold_all()
    p.grad = totals.part(0).detach()  # another object on the same memory
    assert totals.hold_all()
    assert not GradTotals([]).hold_all()


def test_totals_fit_the_parameters_that_they_were_made_for_as_they_were():
    trunk = make_trunk()
    parameters = list(trunk.parameters())
    totals = GradTotals(parameters)
    assert totals.fits(parameters)
    assert not totals.fits(parameters[:-1]) and not totals.fits([*parameters, parameters[0]])
    assert not totals.fits([*parameters[:-1], nn.Parameter(parameters[-1].detach().clone())])
    trunk[0].to(memory_format=torch.contiguous_format)
    assert not totals.fits(parameters)


@pytest.mark.parametrize("kind", ["expanded", "sliced"])
def test_a_parameter_with_gaps_or_overlaps_has_a_gradient_like_torchs(kind):
    base = torch.zeros(6, 4)
    p = nn.Parameter(base[:, ::2] if kind == "sliced" else base[:, :1].expand(6, 3))
    part = GradTotals([p]).part(0)
    (2 * p).sum().backward()
    assert part.shape == p.grad.shape and part.stride() == p.grad.stride()
