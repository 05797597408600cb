"""The control groups (version 1 or 2) that this process is in."""

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")


def groups_of(controller: str, root: Path = ROOT) -> Iterator[Path]:
    """Folders of this process's groups, up to the top; those that are not mounted do not exist.

    Args:
        controller: as version 1 names it, `cpu` or `memory`; in version 2 one group has them all.
        root: where /proc and /sys are found.
    """
    top = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            mounts = [top, top / "unified"]
        elif controller in controllers.split(","):
            mounts = [top / controllers, top / controller]
        else:
            continue
        inside = Path(path.lstrip("/"))
        for mount in mounts:  # inside a container the path may be the host's: then only the top is there
            yield from (mount / folder for folder in (inside, *inside.parents))
