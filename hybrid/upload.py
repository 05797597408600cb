"""A batch's way to the trunk's device, beside the trunk's passes."""

from collections import deque
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Arrival:
    """A batch that a device may still copy or prepare, while what was queued before goes on."""

    images: Tensor
    event: torch.cuda.Event | None
    """Passes when they are there; None: they are."""

    def wait(self) -> Tensor:
        """The images, for what is queued from now on; on CUDA the card waits for them, the host does not."""
        if self.event is not None:
            stream = torch.cuda.current_stream(self.images.device)
            stream.wait_event(self.event)
            self.images.record_stream(stream)  # freed by the host, its memory stays until this stream has passed
        return self.images


class Upload:
    """Copies batches to a device and prepares them there, beside what it computes for the trunk.

    On CUDA that goes from pinned memory on a stream of its own: on the trunk's stream each batch would wait for the
    passes that are queued before it, and the passes after it for the batch. One serves all epochs of a training, as
    cuBLAS keeps a workspace for each stream on which it multiplies. Of pinned memory a batch takes the next power of
    two, and what batches in hand have taken is used again, not given back.

    Args:
        device: of the trunk.
        prepare: makes the trunk's input of a batch that is there.

    Example:
        >>> upload = Upload(torch.device("cpu"), prepare=lambda images: images / 255)
        >>> images = upload.empty((2, 3))
        >>> images[:] = 255
        >>> upload.send(images).wait()
        tensor([[1., 1., 1.],
                [1., 1., 1.]])
    """

    def __init__(self, device: torch.device, prepare: Callable[[Tensor], Tensor]) -> None:
        self._device, self._prepare = device, prepare
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._sent: deque[tuple[torch.cuda.Event, Tensor]] = deque()

    def empty(self, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
        """Host memory for a batch, from which the card copies by itself: what is read into it need not be moved."""
        return torch.empty(shape, dtype=torch.uint8, device="cpu", pin_memory=self._stream is not None).numpy()

    def send(self, images: npt.NDArray[np.uint8]) -> Arrival:
        """Queue a batch; whoever made it leaves it as it is from now on. Of one thread at a time."""
        on_host = torch.from_numpy(images)
        if self._stream is None:
            return Arrival(self._prepare(on_host.to(self._device)), None)
        with torch.cuda.stream(self._stream):
            if not on_host.is_pinned():
                on_host = on_host.pin_memory()
            prepared = self._prepare(on_host.to(self._device, non_blocking=True))
            event = self._stream.record_event()
        while self._sent and self._sent[0][0].query():
            self._sent.popleft()
        self._sent.append((event, on_host))  # else its memory could be filled again before the card has copied it
        return Arrival(prepared, event)


def arrived(batches: "Generator[tuple[Arrival, T], None, None]") -> "Generator[tuple[Tensor, T], None, None]":
    """The same batches for the thread that trains on them; once begun, closing it closes their source."""
    with closing(batches):
        for arrival, tags in batches:
            yield arrival.wait(), tags
