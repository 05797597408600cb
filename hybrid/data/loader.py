"""Batches of pictures in a given order."""

# Shapes: B items, S side in pixels, C channels.

import logging
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from hybrid.data.pool import not_started
from hybrid.data.store import Empty, ImageStore, empty_pictures
from hybrid.data.view import View
from workers.cores import available_cores
from workers.errors import DataError

logger = logging.getLogger(__name__)

_MAX_PROCESSES = 8
_BATCH_LIMIT_S = 300

Part = tuple[np.ndarray, np.ndarray, dict[int, str]]
"""Items asked for, pictures of the good ones, and why the others are bad."""
Batch = tuple[np.ndarray, np.ndarray]
"""Items and their pictures."""


def default_loader_processes() -> int:
    """Half of the cores that this process may use, at least 1 and at most 8: the other half trains."""
    return min(max(1, available_cores() // 2), _MAX_PROCESSES)


def batches(
    view: View, items_order: np.ndarray, batch_size: int, processes: int = -1, empty: Empty = empty_pictures
) -> Iterator[Batch]:
    """`(items int64 [B], images uint8 [B, S, S, C])` in the given order; the last batch may be smaller.

    A decoded set is read directly, into what `empty` makes. Otherwise `processes` DataLoader processes decode (0: this
    one, -1: by the cores). Pictures that turn out to be bad are left out of their batch, counted and named once in the
    log; a batch of nothing but bad pictures is not given out.

    BatchNorm cannot learn from a single example. So a batch that would have one, the last of an epoch or what bad
    pictures leave, gets another from its neighbour: sizes 8, 8, 1 become 8, 7, 2. Every item still comes once and in
    the given order, so that the last one says where an epoch is. Only a single item in all is a batch of one. Of
    2, 2, 1 the last is one of three.
    """
    read = _batches(view, items_order, batch_size, processes, empty)
    return read if batch_size == 1 else _none_of_one(read)


def _batches(view: View, items_order: np.ndarray, batch_size: int, processes: int, empty: Empty) -> Iterator[Batch]:
    """As they are cut and read."""
    parts = [items_order[start : start + batch_size] for start in range(0, len(items_order), batch_size)]
    if view.images.is_decoded:
        for part in parts:
            images, _ = view.images.read(part, empty)
            yield part, images
        return
    num_processes = default_loader_processes() if processes < 0 else processes
    loader = DataLoader(
        _Parts(view.images, parts),
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=num_processes,
        timeout=_BATCH_LIMIT_S if num_processes else 0,
        worker_init_fn=_leave_endings_to_the_owner,
        generator=torch.Generator(torch.get_default_device()),  # else it draws from the one that a checkpoint restores
    )
    try:
        parts_read = iter(loader)
    except OSError as e:
        raise DataError(f"{not_started(e)} Or read without them: data.loader_processes=0.") from e
    while (batch := _next_part(parts_read)) is not None:
        part, images, bad = batch
        _note_bad(view, bad)
        if len(images):
            yield part[~np.isin(part, list(bad))], images


def _none_of_one(read: Iterator[Batch]) -> Iterator[Batch]:
    """The same items in the same order, but none alone, unless there is no other; one batch is held back."""
    held: Batch | None = None
    for batch in read:
        if held is not None and 1 in (len(held[0]), len(batch[0])):
            items, images = (np.concatenate(both) for both in zip(held, batch, strict=True))
            cut = 2 if len(held[0]) == 1 else len(items) - 2
            if len(items) < 4:  # not enough for two
                held = items, images
                continue
            held, batch = (items[:cut], images[:cut]), (items[cut:], images[cut:])
        if held is not None:
            yield held
        held = batch
    if held is not None:
        yield held


def _leave_endings_to_the_owner(_: int) -> None:
    """Ignore SIGTERM where the owner does: a signal for all of a run's processes must not end its pictures first.

    torch has set a handler of its own by now, but what was inherited is still what Python knows. SIGINT and SIGHUP it
    has left as they were inherited.
    """
    if signal.getsignal(signal.SIGTERM) is signal.SIG_IGN:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _as_it_is(part: Any) -> Any:
    """Arrays go through a pipe; as tensors they would need shared memory files, of which containers have little."""
    return part


def _next_part(parts_read: Iterator[Part]) -> Part | None:
    try:
        return next(parts_read, None)
    except RuntimeError as e:  # what torch raises when a loader process is killed, or is silent for too long
        raise DataError(f"reading pictures failed: {e} Fewer data.loader_processes need less memory.") from e


class _Parts(Dataset[Part]):
    """One element is a whole batch, so that one message per batch crosses between processes."""

    def __init__(self, images: ImageStore, parts: list[np.ndarray]) -> None:
        self.images = images
        self.parts = parts

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, index: int) -> Part:
        images, bad = self.images.read(self.parts[index])
        return self.parts[index], images, bad


def _note_bad(view: View, bad: dict[int, str]) -> None:
    """Keep count in the view; name each picture once, however many epochs meet it again."""
    for item, why in bad.items():
        if item not in view.bad_items:
            view.bad_items[item] = why
            logger.warning("skipped %r: unreadable picture: %s (%d so far)", view.names[item], why, len(view.bad_items))
