"""What an evaluation found, kept in its run: tables, the temperature, the index of pictures."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hybrid.checkpoint import open_checkpoint
from hybrid.image_index import ImageIndex
from hybrid.rundir import RunDirectory
from hybrid.temperature import save_temperature
from launch.runs import checkpoint_folders, step_of
from workers.errors import RunError
from workers.file_lock import await_lock
from workers.refused_write import refused_write

_LIMIT_S, _PAUSE_S = 60.0, 0.05
"""Writing takes a second; whoever holds the lock for so long hangs."""


class NotStored(RunError):
    """What was measured could not be kept in the run."""

    def __init__(self, message: str, tables: Mapping[str, dict[str, Any]]) -> None:
        super().__init__(message)
        self.tables = dict(tables)
        """All that was measured, by name of the split."""


def save_measured(run: RunDirectory, tables: Mapping[str, dict[str, Any]], index: ImageIndex, step: int) -> bool:
    """Replace tables, temperature and index of a run by newer ones, in turn with other processes that do so.

    A training that ends while `hybrid evaluate` measures an earlier checkpoint of it must not lose what it measured
    itself: beside a newer checkpoint nothing is written, unless that one is damaged: whoever loads the run passes it
    over, too.

    Args:
        run: to write into.
        tables: by name of the split, from `measure_splits`; the first names the temperature, if tags were ranked by
            probability.
        index: of the test pictures; an empty one is not written.
        step: of the checkpoint that was measured.

    Returns:
        Whether they were written.

    Raises:
        RunError: the folder cannot be written, or another process keeps it locked.
        UnreadableFile: there is a newer checkpoint, which cannot be read now.
    """
    with _locked(run.evaluation_lock):
        if _has_newer(run, step):
            return False
        run.write_results(dict(tables))
        first = next(iter(tables.values()), None)
        if first is not None and first["score"] == "probability":
            save_temperature(run.temperature_file, first["temperature"], step)
        if len(index.items_I):
            index.save(run.index)
    return True


def save_index(run: RunDirectory, index: ImageIndex) -> bool:
    """Replace the index alone, as `save_measured` does; returns whether it was written, and raises the same."""
    with _locked(run.evaluation_lock):
        if _has_newer(run, index.step):
            return False
        index.save(run.index)
    return True


def _has_newer(run: RunDirectory, step: int) -> bool:
    return any(_is_whole(path) for path in checkpoint_folders(run.checkpoints) if step_of(path) > step)


def _is_whole(checkpoint: Path) -> bool:
    try:
        open_checkpoint(checkpoint)
    except RunError:
        return False
    return True


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Until the end of the block, or of this process, no other one comes so far."""
    try:
        file = path.open("a")
    except OSError as e:
        raise RunError(f"cannot write {path}: {refused_write(e, path)}.") from e
    with file:
        try:
            is_ours = await_lock(file.fileno(), limit_s=_LIMIT_S, pause_s=_PAUSE_S)
        except OSError as e:
            raise RunError(f"cannot lock {path}: {e.strerror or e}.") from e
        if not is_ours:
            raise RunError(f"{path} has been locked by another evaluation for {_LIMIT_S:g} s; end that one first.")
        yield
