"""What a measurement was made on: hardware, load, versions, commit."""

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np  # loads the BLAS that threadpoolctl reports
import threadpoolctl
import torch

PACKAGES = ("torch", "numpy", "numba", "faiss-cpu", "pyzmq")
GENERATED = ("benchmarks/results", "benchmarks/report.html", "README.md", "docs/benchmarks.md")
"""What benchmarks write, seen from the root of the repository: no code."""
_GIT_LIMIT_S = 10
_DETAILS = {"family": "cpu family", "model": "model", "stepping": "stepping"}
_VECTOR_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def describe_machine() -> dict[str, Any]:
    """Hardware, operating system, load at this moment."""
    return {
        "cpu": _cpu_model(),
        "cpu_details": _cpu_details(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "system": platform.platform(),
        "load_average": list(os.getloadavg()),
    }


def describe_software() -> dict[str, Any]:
    """Versions, the kernels that BLAS chose for this CPU, and the commit with whether files differ from it."""
    versions = {"python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"versions": versions, "blas": _blas(), "commit": git("rev-parse", "HEAD"), "is_modified": _is_modified()}


def blas_of(record: Mapping[str, Any]) -> str:
    """Of which processors BLAS took its kernels: it tells cores apart whose names are the same."""
    found = {pool["architecture"] for pool in record["software"]["blas"] if "architecture" in pool}
    return ", ".join(sorted(found)) or "unknown"


def _blas() -> list[dict[str, Any]]:
    assert np.__version__, "NumPy, and with it BLAS, is loaded"
    kept = ("user_api", "internal_api", "version", "architecture", "num_threads")
    return [{name: pool[name] for name in kept if name in pool} for pool in threadpoolctl.threadpool_info()]


def _cpu_model() -> str:
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def _cpu_details() -> dict[str, str]:
    """What tells generations apart whose names are the same, as those that cloud providers show."""
    info = _cpuinfo()
    details = {short: info[name] for short, name in _DETAILS.items() if name in info}
    known = set(info.get("flags", "").split())
    vectors = [flag for flag in _VECTOR_FLAGS if flag in known]
    return details | ({"vectors": " ".join(vectors)} if vectors else {})


def _cpuinfo() -> dict[str, str]:
    """Of the first core."""
    try:
        lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _is_modified() -> bool | None:
    """Whether code differs from the commit; what is generated does as soon as a benchmark has written results."""
    left_out = [f":(top,exclude){path}" for path in GENERATED]
    status = git("status", "--porcelain", "--untracked-files=no", "--", ":/", *left_out)
    return None if status is None else bool(status)


def git(*arguments: str) -> str | None:
    """What git says of this source tree; None without git, or outside a repository."""
    command = ["git", "-C", str(Path(__file__).resolve().parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=_GIT_LIMIT_S).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
