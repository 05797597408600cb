"""The environment of processes that run our code."""

import os
import site
from collections.abc import Mapping
from pathlib import Path

OUTPUT_IN_UTF8: Mapping[str, str] = {"PYTHONIOENCODING": "utf-8:backslashreplace"}
"""For a process whose output goes to a log, which is read as UTF-8. Not PYTHONUTF8, which would change how a user's
trunk opens files; not for one whose output goes to a terminal: that wants what the locale says."""


def child_environment() -> dict[str, str]:
    """This environment, in which Python finds this very code, in a checkout that is not installed, too.

    Folders that Python looks into by itself (`site-packages`, Debian's `dist-packages`) are not added: they would come
    before its own modules, as would the working directory. `hybrid.trunks` looks there, last.
    """
    environment = dict(os.environ)
    root = Path(__file__).resolve().parents[1]
    paths = [] if root in _site_folders() else [str(root)]
    paths += [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    environment["PYTHONUNBUFFERED"] = "1"  # whatever ends a process, what it said is there
    return environment


def _site_folders() -> list[Path]:
    folders = [*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])]
    return [Path(folder).resolve() for folder in folders]
