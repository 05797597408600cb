"""Where the trunk computes."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from hybrid import device
from hybrid.device import choose_cuda_graphs, choose_device, choose_precision, describe, trunk_device
from launch.config import TrunkConfig
from workers.errors import ConfigError


@pytest.mark.parametrize("has_cuda", [True, False])
def test_auto_takes_cuda_if_there_is_one(monkeypatch, has_cuda):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    assert choose_device("auto").type == ("cuda" if has_cuda else "cpu")
    assert choose_device("cpu").type == "cpu"


def test_cuda_without_a_card_is_refused_with_advice(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"trunk\.device = 'cuda'.*--device cpu.*device=\"cpu\""):
        choose_device("cuda")


def test_a_trunk_stays_on_its_card_under_auto_alone(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    on_second = SimpleNamespace(parameters=lambda: iter([SimpleNamespace(device=torch.device("cuda:1"))]))
    assert trunk_device("auto", on_second) == torch.device("cuda:1")
    assert trunk_device("cpu", on_second) == torch.device("cpu")
    for elsewhere in (nn.Linear(2, 2), nn.Identity()):
        assert trunk_device("auto", elsewhere) == torch.device("cuda")


@pytest.mark.parametrize(("multiplies", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_cpu_takes_bfloat16_only_where_it_multiplies_it(monkeypatch, multiplies, dtype):
    monkeypatch.setattr(device, "cpu_multiplies_bfloat16", lambda: multiplies)
    assert choose_precision("auto", torch.device("cpu")) is dtype


@pytest.mark.parametrize(("capability", "dtype"), [((9, 0), torch.bfloat16), ((7, 5), torch.float32)])
def test_a_card_takes_bfloat16_only_where_it_multiplies_it(monkeypatch, capability, dtype):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert choose_precision("auto", torch.device("cuda")) is dtype


def test_a_precision_that_is_asked_for_is_taken(monkeypatch):
    monkeypatch.setattr(device, "cpu_multiplies_bfloat16", lambda: False)
    assert choose_precision("bfloat16", torch.device("cpu")) is torch.bfloat16
    assert choose_precision("float32", torch.device("cpu")) is torch.float32
    assert choose_precision(torch.bfloat16, torch.device("cpu")) is torch.bfloat16


def test_a_precision_that_there_is_not_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"trunk\.precision.*float16"):
        choose_precision("float16", torch.device("cpu"))
    with pytest.raises(ConfigError, match=r"trunk\.precision.*float16"):
        choose_precision(torch.float16, torch.device("cpu"))


@pytest.mark.parametrize("asked", ["gpu", "mps", "cuda:x", ""])
def test_a_device_that_there_is_not_is_refused_by_name(asked):
    with pytest.raises(ConfigError, match=f"trunk\\.device = '{asked}'"):
        choose_device(asked)


def test_one_card_of_several_is_taken_if_it_is_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ConfigError, match="finds 2 CUDA devices"):
        choose_device("cuda:2")


def test_a_torch_that_does_not_tell_what_the_cpu_can_do_gets_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert choose_precision("auto", torch.device("cpu")) is torch.float32


@pytest.mark.parametrize(
    ("capabilities", "has_bfloat16"),
    [
        ({"amx_bf16": True}, True),
        ({"avx512_bf16": True}, True),
        ({"avx512_bf16": False, "avx2": True}, False),
        ({}, False),
    ],
)
def test_bfloat16_is_what_the_cpu_says_it_multiplies(monkeypatch, capabilities, has_bfloat16):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert device.cpu_multiplies_bfloat16() is has_bfloat16


def test_a_cpu_is_called_so():
    assert describe(torch.device("cpu")) == "cpu"


@pytest.mark.parametrize(
    "asked, device, factory, expected",
    [
        ("auto", "cuda", "cnn-small", True),
        ("auto", "cuda", "mine:trunk", False),
        ("auto", "cpu", "cnn-small", False),
        ("on", "cuda", "mine:trunk", True),
        ("off", "cuda", "cnn-small", False),
        ("off", "cpu", "cnn-small", False),
    ],
)
def test_passes_are_recorded_on_a_card_for_trunks_that_are_known(monkeypatch, asked, device, factory, expected):
    monkeypatch.setattr("hybrid.device.choose_device", lambda asked: torch.device(asked))
    assert choose_cuda_graphs(TrunkConfig(factory=factory, device=device, cuda_graphs=asked)) is expected


def test_passes_on_a_cpu_cannot_be_recorded(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"trunk\.cuda_graphs = 'on'.*no CUDA device"):
        choose_cuda_graphs(TrunkConfig(cuda_graphs="on"))
    with pytest.raises(ConfigError, match=r"trunk\.cuda_graphs = 'on'.*trunk\.device = 'cpu'"):
        TrunkConfig(device="cpu", cuda_graphs="on")
    with pytest.raises(ConfigError, match=r"trunk\.cuda_graphs"):
        TrunkConfig(cuda_graphs="maybe")
