"""Where a worker's stdout and stderr go, with its last words for whoever must explain its death."""

import os
import tempfile
from pathlib import Path
from typing import IO

_LAST_WORDS_BYTES = 3000


class WorkerLog:
    """A file that a worker process writes: `worker-INDEX.log`, shared with its predecessors, or one without a name."""

    def __init__(self, log_dir: Path | None, index: int) -> None:
        self.file: IO[bytes]
        if log_dir is None:
            self.file = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - lives as long as the worker
        else:
            log_dir.mkdir(parents=True, exist_ok=True)
            self.file = (log_dir / f"worker-{index}.log").open("a+b")
        self._start = self.file.seek(0, os.SEEK_END)

    def last_words(self) -> str:
        """The end of what this worker wrote."""
        end = self.file.seek(0, os.SEEK_END)
        self.file.seek(max(self._start, end - _LAST_WORDS_BYTES))
        return self.file.read().decode(errors="replace").strip()

    def close(self) -> None:
        """Let go of the file; what is in a named one stays."""
        self.file.close()
