"""Trunks and what they are fed."""

import sys

import numpy as np
import pytest
import torch
from torch import nn

from hybrid.trunks import TRUNKS, build_trunk, normalise, on_background, premultiplied, prepare_images
from launch import config
from launch.config import TrunkConfig
from workers.errors import ConfigError

FACTORIES = """
import torch
SIDE = 3
def linear(dim, image_size):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * image_size**2, dim))
def no_module(dim, image_size):
    return "a network"
class Counting(torch.nn.Linear):
    def get_extra_state(self):
        return {"batches": 3}
def extra(dim, image_size):
    return torch.nn.Sequential(torch.nn.Flatten(), Counting(3 * image_size**2, dim))
def broken(dim, image_size):
    raise ValueError("no such width")
def other_arguments(width):
    return torch.nn.Identity()
"""


@pytest.fixture
def factories(tmp_path, monkeypatch):
    (tmp_path / "my_trunks.py").write_text(FACTORIES)
    (tmp_path / "broken_trunks.py").write_text("import a_module_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in ("my_trunks", "broken_trunks"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("factory", TRUNKS)
@pytest.mark.parametrize("image_size", [16, 48])
def test_trunks_map_pictures_of_any_size_to_normed_features(factory, image_size):
    trunk = build_trunk(TrunkConfig(factory=factory, dim=12), image_size)
    images = torch.randn(3, 3, image_size, image_size)
    features = trunk(images)
    assert features.shape == (3, 12) and features.dtype == torch.float32
    torch.testing.assert_close(features.mean(dim=1), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(features.var(dim=1, unbiased=False), torch.ones(3), rtol=0, atol=1e-3)
    features.square().mul(torch.arange(12)).sum().backward()
    assert all(p.grad is not None for p in trunk.parameters())
    assert any(p.is_contiguous(memory_format=torch.channels_last) for p in trunk.parameters() if p.ndim == 4)


def test_odd_sizes_survive_halving():
    assert build_trunk(TrunkConfig(dim=8), 29)(torch.randn(2, 3, 29, 29)).shape == (2, 8)


def test_features_stay_float32_under_autocast():
    trunk = build_trunk(TrunkConfig(dim=8), 16)
    with torch.autocast("cpu", torch.bfloat16):
        assert trunk(torch.randn(2, 3, 16, 16)).dtype == torch.float32


def test_equal_seeds_build_equal_trunks():
    weights = []
    for _ in range(2):
        torch.manual_seed(4)
        weights.append(build_trunk(TrunkConfig(dim=8), 16).project.weight)
    assert torch.equal(*weights)


def test_a_factory_of_the_users_own(factories):
    trunk = build_trunk(TrunkConfig(factory="my_trunks:linear", dim=8), 16)
    assert isinstance(trunk, nn.Module) and trunk(torch.randn(2, 3, 16, 16)).shape == (2, 8)


def test_a_factory_in_the_working_directory_is_found_after_all_other_modules(tmp_path, monkeypatch):
    (tmp_path / "trunk_from_here.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(tmp_path))])
    before = list(sys.path)
    try:
        for _ in range(2):
            build_trunk(TrunkConfig(factory="trunk_from_here:linear", dim=8), 16)
    finally:
        sys.modules.pop("trunk_from_here", None)
    assert sys.path == [*before, str(tmp_path)]


@pytest.mark.parametrize(
    ("factory", "told"),
    [
        ("cnn-smal", "did you mean 'cnn-small'"),
        ("resnet", "module:factory"),
        ("nowhere_at_all:trunk", "nowhere_at_all.*working directory or on PYTHONPATH"),
        ("broken_trunks:trunk", "a_module_that_is_not_there"),
        ("my_trunks:missing", "missing"),
        ("my_trunks:SIDE", "is a int, expected a function"),
        ("my_trunks:no_module", "built a str, expected a torch.nn.Module"),
        ("my_trunks:extra", r"1\._extra_state in the trunk.s state_dict is a dict, but checkpoints hold tensors"),
        (":linear", "module:factory"),
        ("my_trunks:", "module:factory"),
    ],
)
def test_factories_that_cannot_be_used_are_named(factories, factory, told):
    with pytest.raises(ConfigError, match=told) as caught:
        build_trunk(TrunkConfig(factory=factory, dim=8), 16)
    assert factory in str(caught.value)


def test_the_command_line_knows_the_trunks_that_are_there():
    assert tuple(TRUNKS) == config.TRUNKS


def test_a_factory_with_other_arguments_is_named(factories):
    with pytest.raises(ConfigError, match="my_trunks:other_arguments"):
        build_trunk(TrunkConfig(factory="my_trunks:other_arguments", dim=8), 16)


def test_a_factorys_own_errors_pass_through(factories):
    with pytest.raises(ValueError, match="no such width"):
        build_trunk(TrunkConfig(factory="my_trunks:broken", dim=8), 16)


def test_alpha_is_composited_over_the_background():
    """Half-transparent red on green: half of each; what transparent pixels hold does not shine through."""
    images = torch.tensor([[255, 0, 0, 255], [255, 0, 0, 51], [9, 99, 199, 0]], dtype=torch.uint8).view(1, 1, 3, 4)
    green = torch.tensor([0.0, 1.0, 0.0]).view(1, 3, 1, 1)
    got = on_background(premultiplied(images), green)[0, :, 0].T
    torch.testing.assert_close(got, torch.tensor([[1.0, 0.0, 0.0], [0.2, 0.8, 0.0], [0.0, 1.0, 0.0]]))


def test_pictures_without_alpha_are_opaque():
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), dtype=np.uint8))
    got = on_background(premultiplied(images), torch.zeros(1, 3, 1, 1))
    torch.testing.assert_close(got, images.permute(0, 3, 1, 2).float() / 255)
    opaque = torch.cat([images, torch.full((2, 4, 4, 1), 255, dtype=torch.uint8)], dim=3)
    torch.testing.assert_close(prepare_images(opaque), prepare_images(images))


def test_prepared_pictures_are_on_white_centred_and_channels_last():
    prepared = prepare_images(torch.zeros(2, 4, 4, 4, dtype=torch.uint8))
    torch.testing.assert_close(prepared, normalise(torch.ones(2, 3, 4, 4)))
    assert prepared.is_contiguous(memory_format=torch.channels_last)
    assert prepared.shape == (2, 3, 4, 4)


def test_preparing_pictures_makes_no_tensor_of_a_constant(monkeypatch):
    """On CUDA it would be copied to the device with each batch, and waited for."""
    images, made, tensor = torch.zeros(2, 4, 4, 4, dtype=torch.uint8), [], torch.tensor
    monkeypatch.setattr(torch, "tensor", lambda *given, **options: (made.append(given), tensor(*given, **options))[1])
    prepare_images(images)
    assert made == []
