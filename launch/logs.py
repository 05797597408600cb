"""Where the launcher's own log goes."""

import contextlib
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from launch.runs import as_run_error

_FORMAT = "%(asctime)s launcher %(levelname)s %(name)s: %(message)s"


@contextmanager
def logging_to(file: Path) -> Iterator[None]:
    """Append records of every module to a file, for as long as it is entered.

    Raises:
        RunError: the file cannot be written.
    """
    with as_run_error(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        handler = _LaxHandler(file, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter(_FORMAT))
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(before)
        with contextlib.suppress(OSError):
            handler.close()


class _LaxHandler(logging.FileHandler):
    """A disk that takes no more costs lines of the log: neither the run, nor what it has to say elsewhere."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)
