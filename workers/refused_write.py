"""Why the system did not take what was to be written, with what helps."""

import errno
import re
import resource
import shutil
from pathlib import Path

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_CUT_SHORT = re.compile(r"\d+ requested and \d+ written")
"""What NumPy says of an array of which a part alone was taken; it does not keep the system's reason."""


def refused_write(error: OSError, place: Path | None = None, wanted_bytes: int | None = None) -> str:
    """What the system says and, where there is no room, how much there is and what to do; without a full stop.

    Args:
        error: of the system.
        place: the file or folder that was written, which need not be there.
        wanted_bytes: how much was to be written, if that is known.

    Example:
        >>> refused_write(OSError(errno.EDQUOT, "Disk quota exceeded"), wanted_bytes=15_000_000)
        'Disk quota exceeded (15 MB wanted): remove what is not needed there, or have the quota raised'
    """
    sizes = [] if wanted_bytes is None else [f"{size_text(wanted_bytes)} wanted"]
    number = error.errno
    if number is None and _CUT_SHORT.fullmatch(str(error)):
        number = errno.ENOSPC if resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY else errno.EFBIG
    if number == errno.ENOSPC:
        free = None if place is None else free_bytes(place)
        sizes += [] if free is None else [f"{size_text(free)} free"]
        advice = "make room there"
    elif number == errno.EDQUOT:
        advice = "remove what is not needed there, or have the quota raised"
    elif number == errno.EFBIG:
        most = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        sizes += [] if most == resource.RLIM_INFINITY else [f"ulimit -f allows {size_text(most)}"]
        advice = "raise that limit" if most != resource.RLIM_INFINITY else "write to another file system"
    else:
        return error.strerror or str(error)
    figures = f" ({', '.join(sizes)})" if sizes else ""
    return f"{error.strerror or error}{figures}: {advice}"


def free_bytes(place: Path) -> int | None:
    """What a user may still write where a file or folder is, or is to be; None if the system does not tell."""
    for path in (place, *place.absolute().parents):
        try:
            return shutil.disk_usage(path).free
        except FileNotFoundError:
            continue
        except OSError:
            break
    return None


def size_text(num_bytes: float) -> str:
    """A size as people read it.

    Example:
        >>> size_text(0), size_text(12_288), size_text(14_980_000), size_text(2.5e9)
        ('0 bytes', '12 kB', '15 MB', '2.5 GB')
    """
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if num_bytes >= unit:
            return f"{num_bytes / unit:.{1 if num_bytes < 9.95 * unit else 0}f} {name}".replace(".0 ", " ")
    return f"{num_bytes:.0f} bytes"
