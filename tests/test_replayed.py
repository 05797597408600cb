"""Functions of tensors that are recorded and replayed."""

import numpy as np
import pytest
import torch

from hybrid.augment import Augmentation, Augmenter
from hybrid.data.store import DecodedImages
from hybrid.recording import NoRoom, Recorder
from hybrid.replayed import Replayed
from tests.simulated_card import simulated_card  # noqa: F401  -- a fixture
from workers.errors import ConfigError

B, SIDE, STORED = 6, 24, 32
on_a_card = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


def test_only_arguments_of_the_recorded_form_are_replayed(simulated_card):  # noqa: F811
    calls = []
    replayed = Replayed(lambda a, b: calls.append(len(a)) or a + b)
    assert not replayed.is_recorded
    replayed.record("a sum", torch.zeros(B, 2), torch.zeros(B, 2))
    assert replayed.is_recorded and calls == [B, B]  # once for the libraries, once recorded
    a, b = torch.randn(B, 2), torch.randn(B, 2)
    assert torch.equal(replayed(a, b), a + b)
    assert calls == [B, B] and simulated_card[0].num_replays == 1
    for other in (torch.randn(B - 1, 2), torch.randn(2, B).T, torch.randn(B, 2, dtype=torch.float64)):
        assert torch.equal(replayed(other, other), 2 * other)
    assert simulated_card[0].num_replays == 1 and calls[2:] == [B - 1, B, B]


def test_a_result_is_not_overwritten_by_the_next_one(simulated_card):  # noqa: F811
    replayed = Replayed(lambda a: a + 1)
    replayed.record("a sum", torch.zeros(B))
    first, second = (replayed(torch.full((B,), number)) for number in (1.0, 2.0))
    assert first.tolist() == [2.0] * B and second.tolist() == [3.0] * B


def test_a_recorded_augmenter_changes_batches_as_another(simulated_card):  # noqa: F811
    pictures = random_pictures()
    recorded, other = (Augmenter(Augmentation(), SIDE, 0, torch.device("cpu")) for _ in range(2))
    recorded.record(pictures, B, pytest.fail)
    for seed, size in enumerate((B, B, B - 2, B)):
        recorded.reseed(seed)
        other.reseed(seed)
        got, want = (one(batch_of(pictures)[:size]) for one in (recorded, other))
        assert got.stride() == want.stride() and torch.equal(got, want)
    assert simulated_card[0].num_replays == 3


def fail_to_record(monkeypatch, error):
    def fail(recorder, graph):
        raise error

    monkeypatch.setattr(Recorder, "recorded", fail)


def test_a_card_without_room_for_a_recording_is_told_of(simulated_card, monkeypatch):  # noqa: F811
    fail_to_record(monkeypatch, torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    said = []
    augmenter, other = (Augmenter(Augmentation(), SIDE, 0, torch.device("cpu")) for _ in range(2))
    pictures = random_pictures()
    augmenter.record(pictures, B, said.append)
    assert len(said) == 1
    assert all(words in said[0] for words in ("no room", "augmentation", "singly", "CUDA out of memory")), said
    assert torch.equal(augmenter(batch_of(pictures)), other(batch_of(pictures)))


@pytest.mark.parametrize(
    ("error", "kind"),
    [(torch.cuda.OutOfMemoryError("CUDA out of memory."), NoRoom), (RuntimeError("no such thing"), ConfigError)],
)
def test_what_cannot_be_recorded_is_an_error_that_says_why(simulated_card, monkeypatch, error, kind):  # noqa: F811
    fail_to_record(monkeypatch, error)
    replayed = Replayed(lambda a: a + 1)
    with pytest.raises(kind, match=f"a sum.*{error}".rstrip(".")):
        replayed.record("a sum", torch.zeros(B))
    assert not replayed.is_recorded and torch.equal(replayed(torch.ones(B)), torch.full((B,), 2.0))


def random_pictures() -> DecodedImages:
    images_BHWC = np.random.default_rng(1).integers(0, 256, (B, STORED, STORED, 4), dtype=np.uint8)
    return DecodedImages(images_BHWC, np.arange(B))


def batch_of(pictures: DecodedImages) -> torch.Tensor:
    return torch.from_numpy(pictures.images)


@on_a_card
def test_on_a_card_a_recorded_augmenter_makes_what_one_on_a_cpu_makes():
    pictures, device = random_pictures(), torch.device("cuda")
    recorded, single, twin = (Augmenter(Augmentation(), SIDE, 0, on) for on in (device, device, torch.device("cpu")))
    recorded.record(pictures, B, pytest.fail)
    images = batch_of(pictures)
    kept = []
    for seed in range(5):
        for augmenter in (recorded, single, twin):
            augmenter.reseed(seed)
        kept.append((recorded(images.to(device)), single(images.to(device)), twin(images)))
    for got, alone, want in kept:
        assert got.stride() == alone.stride() and torch.equal(got, alone)
        torch.testing.assert_close(got.cpu(), want, rtol=0, atol=2e-3)
    few = images[: B - 2]
    for augmenter in (recorded, twin):
        augmenter.reseed(9)
    torch.testing.assert_close(recorded(few.to(device)).cpu(), twin(few), rtol=0, atol=2e-3)
    assert recorded._changed.is_recorded
