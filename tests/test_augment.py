"""Random changes of training pictures."""

import pytest
import torch
import torch.nn.functional as F

from hybrid.augment import Augmentation, Augmenter
from hybrid.trunks import normalise, premultiplied, prepare_images

NOTHING = Augmentation(
    rotation_degrees=0.0,
    scale=(1.0, 1.0),
    shift=0.0,
    brightness=0.0,
    contrast=0.0,
    saturation=0.0,
    coloured_backgrounds=0.0,
)
CPU = torch.device("cpu")


def disc(side=32, channels=4):
    """A red disc in the middle of nothing."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    is_inside = (x - side / 2 + 0.5) ** 2 + (y - side / 2 + 0.5) ** 2 < (side / 4) ** 2
    image = torch.zeros(side, side, channels, dtype=torch.uint8)
    image[is_inside] = torch.tensor([255, 0, 0, 255][:channels], dtype=torch.uint8)
    return image


def pixels(prepared):
    """Colours in [0, 1]."""
    return (prepared - normalise(torch.zeros(1, 3, 1, 1))) / (
        normalise(torch.ones(1, 3, 1, 1)) - normalise(torch.zeros(1, 3, 1, 1))
    )


@pytest.mark.parametrize("channels", [3, 4])
def test_without_bounds_nothing_changes(channels):
    images = disc(channels=channels).expand(2, -1, -1, -1)
    torch.testing.assert_close(Augmenter(NOTHING, 32, 0, CPU)(images), prepare_images(images), rtol=0, atol=1e-4)


@pytest.mark.parametrize("channels", [3, 4])
def test_output_has_the_trunks_size_and_stays_in_range(channels):
    images = torch.randint(0, 256, (16, 40, 40, channels), dtype=torch.uint8)
    out = Augmenter(Augmentation(), 24, 0, CPU)(images)
    assert out.shape == (16, 3, 24, 24) and out.dtype == torch.float32
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert pixels(out).min() >= -1e-5 and pixels(out).max() <= 1 + 1e-5


def test_each_picture_draws_its_own_changes_from_the_seed():
    images = disc().expand(4, -1, -1, -1)
    first, again, other = (Augmenter(Augmentation(), 32, seed, CPU)(images) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert all(not torch.equal(first[0], image) for image in first[1:])


def test_the_generator_can_be_put_back():
    """What a checkpoint saves."""
    augmenter, images = Augmenter(Augmentation(), 32, 0, CPU), disc().expand(3, -1, -1, -1)
    augmenter(images)
    state = augmenter.generator.get_state()
    expected = augmenter(images)
    other = Augmenter(Augmentation(), 32, 99, CPU)
    other.generator.set_state(state)
    assert torch.equal(other(images), expected)


def test_the_global_random_state_is_left_alone():
    before = torch.get_rng_state()
    Augmenter(Augmentation(), 32, 0, CPU)(disc().expand(3, -1, -1, -1))
    assert torch.equal(torch.get_rng_state(), before)


def change(**bounds):
    values = {name: getattr(NOTHING, name) for name in Augmentation.__dataclass_fields__}
    return Augmentation(**{**values, **bounds})


def area(out):
    """Share of pixels of each picture that are red: the disc's size."""
    red = pixels(out)
    return ((red[:, 0] > 0.5) & (red[:, 1] < 0.5)).float().mean(dim=(1, 2))


def test_scale_changes_the_size_of_the_object_as_it_says():
    images = disc(64).expand(2, -1, -1, -1)
    plain, small, large = (
        area(Augmenter(change(scale=(s, s)), 64, 0, CPU)(images)).mean().item() for s in (1.0, 0.5, 1.5)
    )
    assert small == pytest.approx(plain / 4, rel=0.1)
    assert large == pytest.approx(plain * 2.25, rel=0.1)


def test_shift_moves_by_at_most_its_share_of_the_side():
    out = pixels(Augmenter(change(shift=0.1), 64, 0, CPU)(disc(64).expand(64, -1, -1, -1)))
    weight = 1 - out[:, 1]
    x = (weight.sum(dim=1) * torch.arange(64)).sum(dim=1) / weight.sum(dim=(1, 2)) - 31.5
    assert x.abs().max() <= 6.4 + 0.1
    assert x.min() < -4 and x.max() > 4


def test_rotation_turns_but_does_not_distort():
    image = torch.zeros(64, 64, 4, dtype=torch.uint8)
    image[28:36, 8:56] = torch.tensor([255, 0, 0, 255], dtype=torch.uint8)  # a bar
    out = Augmenter(change(rotation_degrees=30.0), 64, 3, CPU)(image.expand(16, -1, -1, -1))
    assert not torch.equal(out[0], out[1])
    torch.testing.assert_close(area(out), area(prepare_images(image[None])).expand(16), rtol=0.08, atol=0)


def test_backgrounds_are_coloured_where_there_is_alpha_only():
    always = change(coloured_backgrounds=1.0)
    corners = pixels(Augmenter(always, 32, 0, CPU)(disc().expand(32, -1, -1, -1)))[:, :, 0, 0]
    assert corners.std(dim=0).min() > 0.15
    opaque = torch.full((4, 32, 32, 3), 80, dtype=torch.uint8)
    centre = pixels(Augmenter(always, 32, 0, CPU)(opaque))[:, :, 16, 16]
    torch.testing.assert_close(centre, torch.full((4, 3), 80 / 255), rtol=0, atol=1e-4)


def test_some_backgrounds_stay_white():
    out = pixels(Augmenter(change(coloured_backgrounds=0.5), 32, 0, CPU)(disc().expand(200, -1, -1, -1)))
    share = (out[:, :, 0, 0] > 0.999).all(dim=1).float().mean().item()
    assert 0.35 < share < 0.65


def test_transparent_edges_do_not_darken_when_the_object_shrinks():
    """Colours are premultiplied: resampling mixes object and background, never the black behind transparency."""
    out = pixels(Augmenter(change(scale=(0.5, 0.5)), 32, 0, CPU)(disc().expand(1, -1, -1, -1)))
    assert out[:, 0].min() > 0.99  # red on white: the red channel is full everywhere


def test_colours_are_changed_as_one_by_one_operations_would(monkeypatch):
    """Background, saturation, contrast, brightness, limits: the twin takes the same numbers, picture by picture."""
    bounds = Augmentation(rotation_degrees=0.0, scale=(1.0, 1.0), shift=0.0)
    images = torch.randint(0, 256, (64, 8, 8, 4), dtype=torch.uint8)
    units = torch.rand(64, 11, dtype=torch.float64)  # of any seed: all must agree
    monkeypatch.setattr(torch, "rand", lambda *shape, **named: units.float())
    got = pixels(Augmenter(bounds, 8, 0, CPU)(images))
    for picture, unit, out in zip(images.double() / 255, units, got.double(), strict=True):
        saturation, contrast, brightness = (
            low + u * (high - low)
            for u, (low, high) in zip(
                unit[4:7],
                (
                    (1 - bounds.saturation, 1 + bounds.saturation),
                    (1 - bounds.contrast, 1 + bounds.contrast),
                    (-bounds.brightness, bounds.brightness),
                ),
                strict=True,
            )
        )
        background = unit[8:] if unit[7] < bounds.coloured_backgrounds else torch.ones(3, dtype=torch.float64)
        alpha = picture[:, :, 3:]
        laid = alpha * picture[:, :, :3] + (1 - alpha) * background
        grey = laid.mean(dim=2, keepdim=True)
        changed = contrast * (grey + saturation * (laid - grey) - 0.5) + 0.5 + brightness
        torch.testing.assert_close(out.permute(1, 2, 0), changed.clamp(0, 1), rtol=0, atol=1e-4)


def test_places_are_those_of_torchs_own_affine_grid(monkeypatch):
    bounds = change(rotation_degrees=30.0, scale=(0.5, 1.5), shift=0.2)
    images = torch.randint(0, 256, (16, 20, 20, 3), dtype=torch.uint8)
    units = torch.rand(16, 11)
    monkeypatch.setattr(torch, "rand", lambda *shape, **named: units)
    got = Augmenter(bounds, 12, 0, CPU)(images)
    angle, scale = torch.deg2rad(60 * units[:, 0] - 30), 0.5 + units[:, 1]
    x, y = (0.8 * units[:, 2:4] - 0.4).T
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    maps = torch.stack([torch.stack([cos, -sin, x], dim=1), torch.stack([sin, cos, y], dim=1)], dim=1)
    grid = F.affine_grid(maps, [16, 4, 12, 12], align_corners=False)
    sampled = F.grid_sample(premultiplied(images), grid, align_corners=False)
    expected = normalise(sampled[:, :3] + 1 - sampled[:, 3:])
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)
