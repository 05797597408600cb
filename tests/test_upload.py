"""Batches on their way to the trunk's device."""

import weakref
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hybrid.prefetch import prefetched
from hybrid.upload import Upload, arrived

CPU = torch.device("cpu")
on_a_card = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


def batches_of(upload, count, closed=None):
    try:
        for number in range(count):
            yield upload.send(np.full((64, 64), number, dtype=np.uint8)), number
    finally:
        if closed is not None:
            closed.append(True)


def test_batches_arrive_prepared_and_in_order():
    upload = Upload(CPU, lambda images: images.float() + 0.5)
    got = [(float(images[0, 0]), number) for images, number in arrived(prefetched(batches_of(upload, 5)))]
    assert got == [(number + 0.5, number) for number in range(5)]


def test_closing_closes_the_source():
    closed = []
    batches = arrived(batches_of(Upload(CPU, lambda images: images), 5, closed))
    next(batches)
    batches.close()
    assert closed == [True]


def test_what_is_prepared_on_the_cpu_is_not_copied():
    images = np.zeros((2, 3), dtype=np.uint8)
    arrival = Upload(CPU, lambda images: images).send(images)
    assert arrival.wait().data_ptr() == images.ctypes.data


class FakeEvent:
    def __init__(self):
        self.has_passed = False

    def query(self):
        return self.has_passed


def test_what_the_card_copies_from_is_kept_until_it_has(monkeypatch):
    """A view of it, too, whose memory torch would not know again."""
    events, upload = [], Upload(CPU, lambda images: images.clone())
    upload._stream = SimpleNamespace(record_event=lambda: events.append(FakeEvent()) or events[-1])
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.Tensor, "is_pinned", lambda tensor: True)
    sources = [np.full((4, 3), number, np.uint8) for number in range(3)]
    lives = [weakref.ref(source) for source in sources]
    for _ in range(3):
        upload.send(sources.pop(0)[1:])
    assert all(life() is not None for life in lives)
    events[0].has_passed = events[2].has_passed = True
    upload.send(np.zeros((4, 3), np.uint8))
    assert [life() is not None for life in lives] == [False, True, True]  # in the order of the stream


@on_a_card
def test_a_card_prepares_beside_what_it_computes_and_what_uses_it_waits():
    """Matrix products keep both streams busy: what is read, and prepared, would else be there too early, or gone."""
    device, matrix = torch.device("cuda"), torch.randn(4096, 4096, device="cuda")
    upload = Upload(device, lambda images: sum((matrix @ matrix)[:64, :64] * 0 + images.float() for _ in range(20)))

    def batches():
        for number in range(8):
            source = upload.empty((64, 64))  # the same memory again, once nobody needs it any more
            source[:] = number
            yield upload.send(source), number

    totals = []
    for images, number in arrived(prefetched(batches())):
        for _ in range(20):
            matrix @ matrix
        totals.append((images.sum() / 64**2, number))
        del images  # its memory may be taken for the next one as soon as this stream has read it
    assert [round(float(total)) for total, _ in totals] == [20 * number for _, number in totals]


@on_a_card
def test_the_stream_of_the_passes_does_not_wait_to_send():
    device = torch.device("cuda")
    upload, matrix = Upload(device, lambda images: images.float()), torch.randn(8192, 8192, device="cuda")
    upload.send(np.zeros((8, 8), dtype=np.uint8)).wait()
    torch.cuda.synchronize()
    for _ in range(20):
        matrix @ matrix
    arrival = upload.send(upload.empty((8, 8)))
    arrival.event.synchronize()
    assert not torch.cuda.current_stream().query()
