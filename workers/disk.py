"""Files that appear on the disk whole or not at all."""

import os
import tempfile
from pathlib import Path

from workers.errors import RunError


def write_whole(path: Path, content: str | bytes) -> None:
    """Write or replace a file: a reader, or a kill at any moment, sees the old content or the new one.

    A path that is not UTF-8, as Python holds it in a string, is written with backslashes.

    Raises:
        RunError: the file cannot be written; the message says why.
    """
    data = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    try:
        fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError as e:
        raise RunError(f"cannot write {path}: {e.strerror or e}.") from e


def sync(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, are on the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
