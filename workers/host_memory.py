"""How much memory this process could still take, as the machine and its container say."""

import contextlib
from pathlib import Path

from workers.control_groups import ROOT, groups_of


def available_bytes(root: Path = ROOT) -> int | None:
    """The smallest of what the machine has left and what each control group allows; None if none of them says.

    Args:
        root: where /proc and /sys are found.
    """
    known = [_of_machine(root), *(_of_group(group) for group in groups_of("memory", root))]
    return min((num_bytes for num_bytes in known if num_bytes is not None), default=None)


def _of_machine(root: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError, KeyError):
        return int(_fields(root / "proc/meminfo")["MemAvailable:"]) << 10
    return None


def _of_group(group: Path) -> int | None:
    """Pages of files count as free: they are given up when memory is short."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        limit, stat = (group / "memory.max").read_text().strip(), _fields(group / "memory.stat")
        cached = int(stat["active_file"]) + int(stat["inactive_file"])
        return None if limit == "max" else int(limit) - int((group / "memory.current").read_text()) + cached
    with contextlib.suppress(OSError, ValueError, KeyError):
        stat = _fields(group / "memory.stat")
        cached = int(stat["total_active_file"]) + int(stat["total_inactive_file"])
        used = int((group / "memory.usage_in_bytes").read_text())
        return int((group / "memory.limit_in_bytes").read_text()) - used + cached
    return None


def _fields(file: Path) -> dict[str, str]:
    """The first number of each line by its name."""
    words = (line.split() for line in file.read_text().splitlines())
    return {of_line[0]: of_line[1] for of_line in words if len(of_line) > 1}
