"""How much memory this process could still take, as the machine and its container say."""

from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_CONTAINER = Path("/sys/fs/cgroup")


def available_bytes() -> int | None:
    """The smaller of what the machine has left and what the container allows; None if neither says."""
    known = [b for b in (_machine_bytes(), _container_bytes()) if b is not None]
    return min(known, default=None)


def _machine_bytes() -> int | None:
    try:
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    except (OSError, ValueError, IndexError):
        pass
    return None


def _container_bytes() -> int | None:
    try:
        limit = (_CONTAINER / "memory.max").read_text().strip()
        used = int((_CONTAINER / "memory.current").read_text())
        stat = dict(line.split() for line in (_CONTAINER / "memory.stat").read_text().splitlines())
        cached = int(stat["active_file"]) + int(stat["inactive_file"])  # given up when memory is short
        return None if limit == "max" else int(limit) - (used - cached)
    except (OSError, ValueError, KeyError):
        return None
