"""fastText's supervised training with negative sampling, stopped between its turns."""

# Shapes: L lines, N labels in all.

import atexit
import importlib.metadata
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contestant import Prepared, die_with_parent
from benchmarks.id_streams import POSITIVE_EXPONENT, zipf_ids
from benchmarks.rivals.same_start import LEARNING_RATE

STEP_S = 0.1
_WORDS = 256
_START_LIMIT_S, _STOP_LIMIT_S, _POLL_S = 240.0, 5.0, 0.02


def prepare(settings: dict[str, Any]) -> Prepared:
    """A unit is an update of an output row: 1 + `negatives` for each line.

    fastText trains on a file by one call, after it has read all of it and made its matrices, which takes longer than a
    round. So the call is made in a process of its own, which is stopped (SIGSTOP) once it trains, goes on for `STEP_S`
    in each step, and is counted by how far it has read the file: it reads ahead by 8 KiB, so a round is known to about
    400 lines, in either direction.

    A line has one label, as fastText would take but one of several for its positive. What differs from the engine: it
    draws negatives by count^0.5, from a table; it parses text; and each line also averages and moves two input rows
    (its word and the end of the line), which are not counted.

    Args:
        settings: `num_tags`, `dim`, `negatives`, `lines` of the file.
    """
    folder = tempfile.TemporaryDirectory(prefix="fasttext-")
    path = Path(folder.name, "lines.txt")
    vocabulary_bytes = write_lines(path, settings["num_tags"], settings["lines"])
    bytes_per_line = (path.stat().st_size - vocabulary_bytes) / settings["lines"]
    training = Training(path, settings["dim"], settings["negatives"])
    atexit.register(folder.cleanup)
    atexit.register(training.kill)
    training.wait_until_read(vocabulary_bytes)

    def step() -> float:
        start = training.bytes_read()
        training.go_on(STEP_S)
        return (training.bytes_read() - start) / bytes_per_line * (1 + settings["negatives"])

    return Prepared(step, {"fasttext": importlib.metadata.version("fasttext")})


def write_lines(path: Path, num_labels: int, num_lines: int) -> int:
    """A line with every label, which makes the vocabulary, then lines of one word and one label by Zipf's law.

    Returns:
        The bytes of that first line.
    """
    first = " ".join(f"__label__{i}" for i in range(num_labels)) + " w0\n"
    labels_L = zipf_ids(np.random.default_rng(0), POSITIVE_EXPONENT, (num_lines,), num_labels)
    with path.open("w", encoding="ascii") as file:
        file.write(first)
        file.writelines(f"w{i % _WORDS} __label__{label}\n" for i, label in enumerate(labels_L.tolist()))
    return len(first)


class Training:
    """The process that trains, seen by how far it has read its file."""

    def __init__(self, path: Path, dim: int, negatives: int) -> None:
        command = [sys.executable, "-P", "-m", __spec__.name, str(path), str(dim), str(negatives), str(os.getpid())]
        self._process = subprocess.Popen(command)
        self._path = path.resolve()

    def wait_until_read(self, num_bytes: int) -> None:
        """Stop it as soon as it trains and has read so far.

        The file is read once for the vocabulary before, so training is seen by a position that fell.
        """
        deadline, highest, is_training = time.monotonic() + _START_LIMIT_S, 0, False
        while not (is_training and highest > num_bytes):
            if time.monotonic() > deadline:
                raise TimeoutError(f"fastText did not begin to train within {_START_LIMIT_S:.0f} s")
            if self._process.poll() is not None:
                raise RuntimeError(f"fastText ended with status {self._process.returncode} before its turn")
            time.sleep(_POLL_S)
            position = self._position() or 0
            if 0 < position < highest:
                is_training, highest = True, 0
            highest = max(highest, position)
        self._stop()

    def bytes_read(self) -> int:
        """How far it is.

        Raises:
            RuntimeError: training is over: there were too few lines for so many rounds, or it failed.
        """
        position = self._position()
        if position is None:
            raise RuntimeError("fastText's training is over: it needs more lines, or failed")
        return position

    def go_on(self, seconds: float) -> None:
        """Let it train for so long."""
        self._process.send_signal(signal.SIGCONT)
        time.sleep(seconds)
        self._stop()

    def kill(self) -> None:
        """End it, stopped or not."""
        self._process.kill()
        self._process.wait()

    def _stop(self) -> None:
        self._process.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + _STOP_LIMIT_S
        while Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()[0] not in "TZ":
            if time.monotonic() > deadline:
                raise TimeoutError(f"fastText did not stop within {_STOP_LIMIT_S:.0f} s")

    def _position(self) -> int | None:
        """Of the file's descriptor; None if it is not open."""
        process = Path(f"/proc/{self._process.pid}")
        for descriptor in (process / "fd").iterdir():
            try:
                if descriptor.readlink() == self._path:
                    return int((process / "fdinfo" / descriptor.name).read_text().split()[1])
            except OSError:  # closed meanwhile
                continue
        return None


def _train(path: str, dim: str, negatives: str, parent: str) -> None:
    """The call itself; ends with its parent, also while it is stopped."""
    die_with_parent()
    if os.getppid() != int(parent):
        return
    import fasttext  # in the process that trains only

    fasttext.train_supervised(
        path,
        loss="ns",
        neg=int(negatives),
        dim=int(dim),
        lr=LEARNING_RATE,
        epoch=1,
        minCount=1,
        thread=1,
        verbose=0,
    )


if __name__ == "__main__":
    _train(*sys.argv[1:])
