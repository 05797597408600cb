"""An output that takes no more, told in one line instead of a traceback."""

import contextlib
import errno
import sys
from collections.abc import Iterator

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


@contextlib.contextmanager
def explained_if_full() -> Iterator[None]:
    """End the process with status 1 if what it prints cannot be written; a pipe whose reader left is click's affair."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL or error.filename is not None:
            raise
        with contextlib.suppress(OSError):
            sys.stdout.close()  # else Python tries again at exit what waits in the buffer, and complains
        print(f"Error: the output cannot be written: {error.strerror}.", file=sys.stderr)
        sys.exit(1)
