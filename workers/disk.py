"""Files that appear on the disk whole or not at all."""

import os
import secrets
from pathlib import Path

from workers.errors import RunError
from workers.refused_write import refused_write

ASSUMED_BYTES_PER_S = 300e6
"""Of a disk, with checksums: a guess for what was not timed yet."""


def write_whole(path: Path, content: str | bytes) -> None:
    """Write or replace a file: a reader, or a kill at any moment, sees the old content or the new one.

    A path that is not UTF-8, as Python holds it in a string, is written with backslashes. Who may read the file is for
    the process's umask to say, whatever the old one allowed.

    Raises:
        RunError: the file cannot be written; the message says why.
    """
    data = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    try:
        temporary = _fresh_name(path.parent, f".{path.name}-")
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as e:
        raise RunError(f"cannot write {path}: {refused_write(e, path, len(data))}.") from e


def make_folder(parent: Path, prefix: str) -> Path:
    """A new folder of a name that no other has; the process's umask says who may read it, as it does not of `mkdtemp`.

    Raises:
        OSError: it cannot be made.
    """
    folder = _fresh_name(parent, prefix)
    folder.mkdir()
    return folder


def sync(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, are on the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _fresh_name(parent: Path, prefix: str) -> Path:
    return parent / f"{prefix}{secrets.token_hex(8)}"
