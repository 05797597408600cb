"""Private ipc endpoints: a socket in a fresh directory that only this user can enter."""

import contextlib
import os
import socket
import stat
import tempfile
import time
import zlib
from pathlib import Path

from workers.errors import RunError

_PREFIX = "hybrid-ipc-"
_MAX_PATH_BYTES = 107  # sun_path of a Unix socket
_MAX_NAME_BYTES = 43  # of the prefix, this host, what `mkdtemp` adds, and the longest name of a socket
_ABANDONED_S = 600.0


def make_endpoint() -> str:
    """A fresh `ipc://` endpoint in a directory of mode 0700; remove it with `remove_endpoint`.

    Directories that owners of this host left behind, because they were killed outright, are removed.

    Raises:
        RunError: there is no folder in which it can be made.
    """
    prefix = f"{_PREFIX}{zlib.crc32(socket.gethostname().encode()):08x}-"
    try:
        base = tempfile.gettempdir()
        if len(os.fsencode(base)) + _MAX_NAME_BYTES > _MAX_PATH_BYTES:
            base = "/tmp"
        directory = tempfile.mkdtemp(prefix=prefix, dir=base)
    except OSError as error:
        raise RunError(
            f"no directory for sockets can be made: {error}. Set TMPDIR to a folder on a local disk, with room in it."
        ) from error
    _remove_abandoned(Path(base), prefix)
    return f"ipc://{directory}/head"


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


def _remove_abandoned(base: Path, prefix: str) -> None:
    """Remove this user's directories in which nothing has changed for a while, and in which nobody listens.

    The prefix names the host: in a folder that hosts share, sockets of another one refuse us though their owner lives.
    """
    for directory in base.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):  # somebody else's, or somebody else was faster
            is_old = time.time() - directory.lstat().st_mtime > _ABANDONED_S
            if is_old and not any(_may_be_listened_to(path) for path in directory.iterdir()):
                remove_endpoint(f"ipc://{directory}/head")


def _may_be_listened_to(path: Path) -> bool:
    """Whether somebody may be there; only a refusal says that nobody is."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
    return True
