"""Run directories: made at once or not at all, locked while a launcher lives, found again by name or as `last`."""

import errno
import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from launch.config import RunConfig
from launch.paths import is_file, is_folder
from launch.run_record import LIVE_STATES, RUN_FILE, RunRecord, read_record
from launch.run_settings import CONFIG_FILE, write_config
from workers.disk import make_folder
from workers.errors import RunError
from workers.file_lock import try_lock
from workers.refused_write import refused_write
from workers.settings import nearest

RUNS_FOLDER = "runs"
CHECKPOINTS = "checkpoints"
PREPARED_FILE, RESULTS_FILE = "prepared.json", "results.json"
METRICS_FILE, GALLERY_FILE = "metrics.jsonl", "gallery.html"
_LOCK_FILE = "launcher.lock"
_CHECKPOINT = re.compile(r"step-\d{9,}")
_LOCK_TRIES = 5
_LOCK_PAUSE_S = 0.05
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)
"""What a rename says of a name that something has: a folder with files in it, or what is no folder."""


class RunLock:
    """The one launcher's claim on a run directory; the kernel lets go of it when the launcher dies, however it dies."""

    def __init__(self, directory: Path) -> None:
        """Claim the directory.

        Raises:
            RunError: another launcher that is alive holds it, nobody may write there, or the file system has no locks.
        """
        with as_run_error(directory):
            self._fd = os.open(directory / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            for attempt in range(_LOCK_TRIES):  # `is_alive` of another process may hold the lock for an instant
                if _try_lock(self._fd, fcntl.LOCK_EX, directory):
                    return
                if attempt + 1 < _LOCK_TRIES:
                    time.sleep(_LOCK_PAUSE_S)
            raise RunError(
                f"run {directory} is alive{_pid_of(directory)}: stop it first, with `hybrid stop {directory}`."
            )
        except RunError:
            os.close(self._fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go."""
        os.close(self._fd)


@contextmanager
def as_run_error(place: Path) -> Iterator[None]:
    """Turn what the system says about writing somewhere (a full disk, no permission) into a RunError."""
    try:
        yield
    except OSError as error:
        raise RunError(f"cannot write {place}: {refused_write(error, place)}.") from error


def create_run(config: RunConfig, directory: Path | None, now: float | None = None) -> Path:
    """Make a run directory that holds its configuration; it appears whole, by one rename.

    Args:
        directory: where, links followed; None means `runs/DATE-NAME` under the working directory.
        now: the date in the name, in seconds since 1970.

    Raises:
        RunError: the directory is there already, not empty, or cannot be made.
    """
    if directory is not None:
        target = Path(os.path.realpath(directory))
        places = [target]
    else:
        stamp = time.strftime("%Y-%m-%d-%H%M%S", time.localtime(now))
        target = Path(RUNS_FOLDER, f"{stamp}-{data_name(config.data.source)}").absolute()
        places = [target, *(target.with_name(f"{target.name}-{n}") for n in range(2, 100))]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = make_folder(target.parent, ".new-")
    except OSError as error:
        why = "something else has this name" if isinstance(error, FileExistsError) else refused_write(error, target)
        raise RunError(
            f"cannot make a run directory in {target.parent}: {why}. Choose another place with --run-dir."
        ) from error
    try:
        (fresh / "log").mkdir()
        write_config(fresh, config)
        for place in places:
            if _take_name(fresh, place):
                return place
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    way_on = f", or go on with it: --resume {target}." if is_file(target / CONFIG_FILE) else "."
    raise RunError(f"{target} exists. Choose another --run-dir{way_on}")


def is_alive(directory: Path) -> bool:
    """Whether a launcher holds the run now.

    Raises:
        RunError: the file system has no locks.
    """
    try:
        fd = os.open(directory / _LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not _try_lock(fd, fcntl.LOCK_SH, directory)
    finally:
        os.close(fd)


def look_at_run(directory: Path) -> tuple[RunRecord, bool]:
    """What a run says of itself, with whether a launcher holds it.

    A run that begins or ends between two looks has not died: the lock is looked at before the record is read, and once
    more if the record speaks of a launcher at work.

    Raises:
        RunError: the record cannot be read, or see `is_alive`.
    """
    was_held, record = is_alive(directory), read_record(directory)
    return record, was_held or (record.state in LIVE_STATES and is_alive(directory))


def find_run(name: str, folder: Path | None = None, *, is_trained: bool = False) -> Path:
    """The absolute directory of a run given as a path, as a name under `runs/`, or as `last`.

    Args:
        name: how it was given.
        folder: where names are looked up; None means `runs/` under the working directory.
        is_trained: `last` is the newest run that has a checkpoint: a start that failed must not hide it.

    Raises:
        RunError: there is none; suggests the nearest name.
    """
    folder = Path(RUNS_FOLDER) if folder is None else folder
    if name == "last":
        started = started_runs(folder)
        return next((run for run in started if is_trained and latest_checkpoint(run)), started[0])
    for path in (Path(name), folder / name):
        if is_file(path / RUN_FILE) or is_file(path / CONFIG_FILE):
            return path.absolute()
    known = [path.name for path in _runs(folder)]
    hint = nearest(Path(name).name, known) or "; `last` means the newest under runs/"
    raise RunError(f"no run {name!r} here, nor under {folder}/{hint}")


def started_runs(folder: Path | None = None) -> list[Path]:
    """The absolute directories of all runs, the one started last first.

    Args:
        folder: where they are; None means `runs/` under the working directory.

    Raises:
        RunError: there is none.
    """
    folder = Path(RUNS_FOLDER) if folder is None else folder
    started = []
    for path in _runs(folder):
        try:
            started.append((read_record(path).started, path.absolute()))
        except RunError:  # a damaged run must not hide the others
            continue
    if not started:
        raise RunError(f"there is no run under {folder.absolute()} yet: start one with `hybrid train`.")
    return [path for _, path in sorted(started, reverse=True)]


def data_name(source: str) -> str:
    """A short name for a data source, fit for a directory: `folder:/a/My photos` gives `my-photos`."""
    text = Path(source.removeprefix("folder:")).name.casefold()
    return re.sub(r"[^\w]+", "-", text).strip("-") or "run"


def checkpoint_folders(checkpoints: Path) -> list[Path]:
    """The folders under a run's `checkpoints` whose names are checkpoints', oldest first.

    One that is being written has another name, as has a copy that somebody made.
    """
    found = checkpoints.glob("step-*") if is_folder(checkpoints) else ()  # a glob raises in one that is closed to us
    return sorted((path for path in found if _CHECKPOINT.fullmatch(path.name) and is_folder(path)), key=step_of)


def latest_checkpoint(directory: Path) -> Path | None:
    """The newest checkpoint of a run, damaged or not."""
    return next((path for path in reversed(checkpoint_folders(directory / CHECKPOINTS)) if _has_matrix(path)), None)


def step_of(checkpoint: Path | None) -> int:
    """The step that a checkpoint's name tells, after which a run goes on; 0 without a checkpoint."""
    return 0 if checkpoint is None else int(checkpoint.name.removeprefix("step-"))


def _take_name(fresh: Path, place: Path) -> bool:
    """Whether the folder got the name; a directory with files in it is never replaced by a rename."""
    try:
        fresh.rename(place)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        raise RunError(
            f"cannot make a run directory at {place}: {error.strerror}. Choose another with --run-dir."
        ) from error
    return True


def _has_matrix(checkpoint: Path) -> bool:
    return is_folder(checkpoint / "matrix")


def _runs(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("[!.]*/") if is_file(path / RUN_FILE))


def _pid_of(directory: Path) -> str:
    try:
        return f" (process {read_record(directory).pid})"
    except RunError:
        return ""


def _try_lock(fd: int, how: int, directory: Path) -> bool:
    try:
        return try_lock(fd, how)
    except OSError as error:
        raise RunError(
            f"{directory} cannot be locked: {error.strerror}. Runs need a file system with file locks: choose a place "
            "on one with --run-dir."
        ) from error
