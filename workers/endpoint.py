"""Private ipc endpoints: a socket in a fresh directory that only this user can enter."""

import contextlib
import os
import stat
import tempfile
from pathlib import Path

_PREFIX = "hybrid-ipc-"
_MAX_PATH_BYTES = 107  # sun_path of a Unix socket


def make_endpoint() -> str:
    """A fresh `ipc://` endpoint in a directory of mode 0700; remove it with `remove_endpoint`."""
    base = tempfile.gettempdir()
    if len(os.fsencode(base)) + len(_PREFIX) + 32 > _MAX_PATH_BYTES:
        base = "/tmp"
    return f"ipc://{tempfile.mkdtemp(prefix=_PREFIX, dir=base)}/head"


def remove_endpoint(endpoint: str) -> None:
    """Remove the directory of an endpoint that `make_endpoint` made, with the sockets in it; other endpoints are left.

    Anybody who shares the endpoint may call this, in any order, when its owner is gone. A directory that holds
    something else than sockets is not ours to remove and stays.
    """
    if not endpoint.startswith("ipc://"):
        return
    directory = Path(endpoint.removeprefix("ipc://")).parent
    with contextlib.suppress(OSError):  # somebody else was faster
        about = directory.lstat()
        if not directory.name.startswith(_PREFIX) or not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid():
            return
        for path in directory.iterdir():
            if path.is_socket():
                path.unlink(missing_ok=True)
        directory.rmdir()
