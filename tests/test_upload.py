"""Batches on their way to the trunk's device."""

import numpy as np
import pytest
import torch

from hybrid.prefetch import prefetched
from hybrid.upload import Upload, arrived

CPU = torch.device("cpu")


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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_card_prepares_beside_what_it_computes_and_what_uses_it_waits():
    """Matrix products keep the card busy, so that all batches are read before the first one is prepared."""
    device, matrix = torch.device("cuda"), torch.randn(4096, 4096, device="cuda")
    upload = Upload(device, lambda images: sum((matrix @ matrix)[:64, :64] * 0 + images.float() for _ in range(20)))

    def batches():
        for number in range(8):
            source = upload.empty((64, 64))  # the same memory again, once nobody needs it any more
            source[:] = number
            yield upload.send(source), number

    totals = [(images.sum() / 64**2, number) for images, number in arrived(prefetched(batches()))]
    assert [round(float(total)) for total, _ in totals] == [20 * number for _, number in totals]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
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
