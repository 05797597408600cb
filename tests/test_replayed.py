"""Functions of tensors that are recorded and replayed, with a recorder that runs at once in the place of a card's."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch

from hybrid.augment import Augmentation, Augmenter
from hybrid.data.store import DecodedImages
from hybrid.recording import Recorder
from hybrid.replayed import Replayed

B, SIDE, STORED = 6, 24, 32
on_a_card = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


@pytest.fixture
def no_card(monkeypatch):
    """Notes replays."""
    replays = []

    class Graph:
        def replay(self):
            replays.append(self)

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device, priority: None)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 7))
    monkeypatch.setattr(Recorder, "recorded", lambda recorder, graph: nullcontext())
    return replays


def test_only_arguments_of_the_recorded_form_are_replayed(no_card):
    calls = []
    replayed = Replayed(lambda a, b: calls.append(len(a)) or a + b)
    assert not replayed.is_recorded
    replayed.record(torch.zeros(B, 2), torch.zeros(B, 2))
    assert replayed.is_recorded and calls == [B, B]  # once for the libraries, once recorded
    a, b = torch.randn(B, 2), torch.randn(B, 2)
    got = replayed(a, b)
    assert calls == [B, B] and len(no_card) == 1
    own_a, own_b = replayed._graph._arguments
    assert torch.equal(own_a, a) and torch.equal(own_b, b)
    assert torch.equal(got, torch.zeros(B, 2))  # nothing computes here: what the recording left
    for other in (torch.randn(B - 1, 2), torch.randn(2, B).T, torch.randn(B, 2, dtype=torch.float64)):
        assert torch.equal(replayed(other, other), 2 * other)
    assert len(no_card) == 1 and calls[2:] == [B - 1, B, B]


def test_a_result_is_not_overwritten_by_the_next_one(no_card):
    replayed = Replayed(lambda a: a)
    replayed.record(torch.zeros(B))
    first = replayed(torch.full((B,), 1.0))
    second = replayed(torch.full((B,), 2.0))
    assert first.tolist() == [1.0] * B and second.tolist() == [2.0] * B


def test_a_card_without_room_for_a_recording_is_told_of(no_card, monkeypatch):
    def fail(recorder, graph):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(Recorder, "recorded", fail)
    said = []
    augmenter = Augmenter(Augmentation(), SIDE, 0, torch.device("cpu"))
    pictures, want = random_pictures(), Augmenter(Augmentation(), SIDE, 0, torch.device("cpu"))
    augmenter.record(pictures, B, said.append)
    assert len(said) == 1 and "no room" in said[0] and "CUDA out of memory" in said[0] and "singly" in said[0]
    assert torch.equal(augmenter(batch_of(pictures)), want(batch_of(pictures)))


def test_what_cannot_be_recorded_is_an_error(no_card):
    with pytest.raises(RuntimeError, match="no such thing"):
        Replayed(raising).record(torch.zeros(B))


def raising(of: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("no such thing")


def random_pictures() -> DecodedImages:
    images_BHWC = np.random.default_rng(1).integers(0, 256, (B, STORED, STORED, 4), dtype=np.uint8)
    return DecodedImages(images_BHWC, np.arange(B))


def batch_of(pictures: DecodedImages) -> torch.Tensor:
    return torch.from_numpy(pictures.images)


@on_a_card
def test_a_recorded_augmenter_makes_what_one_on_a_cpu_makes():
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
