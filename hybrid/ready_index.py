"""The index of a run's held-out pictures, made at the moment when it is wanted if the run has none that fits."""

import logging
from collections.abc import Callable, Collection
from functools import partial

from hybrid.data.cache import ProgressCallback
from hybrid.image_index import ImageIndex
from hybrid.measured import save_index
from hybrid.rundir import RunDirectory
from workers.errors import DataError, RunError, UnreadableFile

logger = logging.getLogger(__name__)


def ready_index(
    run: RunDirectory,
    make: Callable[[Callable[[int, int], None]], ImageIndex],
    *,
    fingerprints: Collection[str],
    step: int,
    num_pictures: int,
    progress: ProgressCallback,
    is_to_last: bool = True,
) -> ImageIndex:
    """The index that lies in the run; where there is none of this step, as of a run that was stopped, a fresh one.

    A fresh one is kept in the run, unless that cannot be written or has a newer checkpoint by now.

    Args:
        run: the run.
        make: makes one, and tells how many pictures are done, of how many.
        fingerprints: any of which names the run's data set.
        step: of the checkpoint that is searched.
        num_pictures: that a fresh one would hold, or fewer if some cannot be read.
        progress: told of the making.
        is_to_last: whether a fresh one is kept; not if pictures are read that may be others than the run learned.

    Raises:
        RunError: the data set has changed since the index was made.
        DataError: no held-out picture can be read.
    """
    try:
        index = ImageIndex.load(run.index)
    except RunError:  # none, or a damaged one
        index = None
    if index is not None and index.fingerprint not in fingerprints:
        raise RunError(
            f"the data ({run.config().data.source}) have changed since {run.index} was made. "
            f"Make it anew: hybrid evaluate {run.path}"
        )
    if index is not None and index.step == step:
        return index
    text = f"making the index of {num_pictures:,} pictures first, which takes a moment"
    progress(text, 0, num_pictures)
    index = make(partial(progress, text))
    if not len(index.items_I):
        raise DataError(f"{run.config().data.source}: no held-out picture can be read, so there is none to search.")
    if is_to_last:
        _keep(run, index)
    return index


def log_beginning(text: str, done: int, total: int) -> None:
    """A callback for those who follow no progress: says once what takes a moment, on stderr if no logging is set up."""
    if not done:
        logger.warning("%s", text)


def _keep(run: RunDirectory, index: ImageIndex) -> None:
    try:
        save_index(run, index)
    except (RunError, UnreadableFile) as e:
        logger.warning("the index of pictures is not kept, so the next search makes it again: %s", e)
