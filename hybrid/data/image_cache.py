"""Pictures decoded once into one memory-mapped array."""

# Shapes: R pictures in the array, S side in pixels, C channels.

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from hybrid.data.cache import ProgressCallback, damaged
from hybrid.data.images import BadImage, NotReadNow, not_read_now
from hybrid.data.pictures import Pictures
from hybrid.data.pool import run_in_processes
from hybrid.data.store import IMAGES_FILE

MAX_BYTES = 4 * 2**30
"""Sets that would be larger than this are decoded on the fly."""
_PICTURES_PER_TASK = 64
_PICTURES_PER_PROBE = 1024


def fits_decoded(num_pictures: int, size: int, channels: int) -> bool:
    """Whether a set is small enough to be stored decoded."""
    return num_pictures * size * size * channels <= MAX_BYTES


def decode_all(pictures: Pictures, numbers: np.ndarray, size: int, folder: Path, progress: ProgressCallback) -> None:
    """Write `images.npy` (uint8 `[R, S, S, C]`, row r is picture `numbers[r]`) and `bad.json` (row -> why).

    Concurrency: each process writes rows of its own through a shared mapping. Rows of bad pictures stay 0.

    Raises:
        DataError: a picture could not be read for trouble of the machine, not of its file.
    """
    path = folder / IMAGES_FILE
    _allocate(path, (len(numbers), size, size, pictures.channels))
    work = partial(_decode_rows, pictures, numbers, size, path)
    _visit(work, len(numbers), _PICTURES_PER_TASK, folder, partial(progress, "decoding pictures"))


def probe_all(pictures: Pictures, numbers: np.ndarray, size: int, folder: Path, progress: ProgressCallback) -> None:
    """For sets too large to store: look at every file's header, write `bad.json` (row -> why) into `folder`.

    Signature and errors as `decode_all`; what only decoding reveals is found out while training reads.
    """
    work = partial(_probe_rows, pictures, numbers)
    _visit(work, len(numbers), _PICTURES_PER_PROBE, folder, partial(progress, "looking at pictures"))


def read_bad(folder: Path) -> dict[int, str]:
    """Row -> why it could not be decoded.

    Raises:
        DataError: that is not there any more, or damaged.
    """
    path = folder / "bad.json"
    try:
        return {int(row): why for row, why in json.loads(path.read_text(encoding="ascii")).items()}
    except (OSError, ValueError, AttributeError) as e:
        raise damaged(path, e) from e


def _visit(
    work: Callable[[range], tuple[range, dict[int, str]]],
    num_rows: int,
    rows_per_task: int,
    folder: Path,
    progress: Callable[[int, int], None],
) -> None:
    """Work on all rows in several processes; write what is found to be bad."""
    bad: dict[int, str] = {}
    done = 0
    progress(0, num_rows)
    tasks = [range(start, min(start + rows_per_task, num_rows)) for start in range(0, num_rows, rows_per_task)]
    for task, bad_rows in run_in_processes(work, tasks):
        bad |= bad_rows
        done += len(task)
        progress(done, num_rows)
    (folder / "bad.json").write_text(json.dumps(bad), encoding="ascii")


def _allocate(path: Path, shape: tuple[int, ...]) -> None:
    """Make the array with all its blocks on the disk: a disk that is full says so here, not by SIGBUS in a mapping."""
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape).flush()
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _decode_rows(
    pictures: Pictures, numbers: np.ndarray, size: int, path: Path, rows: range
) -> tuple[range, dict[int, str]]:
    images = np.lib.format.open_memmap(path, mode="r+")

    def decode(row: int) -> None:
        images[row] = pictures.square(int(numbers[row]), size)

    return rows, _bad_rows(decode, rows)


def _probe_rows(pictures: Pictures, numbers: np.ndarray, rows: range) -> tuple[range, dict[int, str]]:
    return rows, _bad_rows(lambda row: pictures.probe(int(numbers[row])), rows)


def _bad_rows(look: Callable[[int], None], rows: range) -> dict[int, str]:
    bad = {}
    for row in rows:
        try:
            look(row)
        except NotReadNow as e:
            raise not_read_now(e.path, e) from e
        except BadImage as e:
            bad[row] = str(e)
    return bad
