"""Whether a file that cannot be read is at fault, or the machine."""

import errno
from pathlib import Path

from workers.errors import UnreadableFile

_MISSING = FileNotFoundError, NotADirectoryError, IsADirectoryError


def unreadable(path: Path, error: OSError) -> UnreadableFile | None:
    """What to raise where a file may be whole, so that nobody throws it away; None if there is no such file.

    Args:
        path: of the file.
        error: of opening, reading or mapping it.
    """
    if isinstance(error, _MISSING):
        return None
    is_full = error.errno in (errno.EMFILE, errno.ENFILE)
    advice = "Raise the limit on open files (ulimit -n)." if is_full else "Once that is mended, try again."
    return UnreadableFile(f"{path} cannot be read: {error.strerror or error}. It may be whole. {advice}")
