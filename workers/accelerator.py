"""Whether a card is there that the installed torch can use, found without loading torch."""

import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from workers.control_groups import ROOT


def has_accelerator(root: Path = ROOT, build: str | None = None) -> bool:
    """Whether a driver runs for cards that the installed torch is built for; only torch knows whether it can use them.

    AMD's driver alone says nothing, since processors with graphics have it, too. Windows lends Linux NVIDIA's driver as
    a library beside a device that any card has. No card is there for torch if `CUDA_VISIBLE_DEVICES` names none.

    Source: NVIDIA, "CUDA on WSL User Guide".

    Args:
        root: where /proc, /sys, /dev and /usr are found.
        build: what torch is built for, see `torch_build`; None looks.
    """
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    build = torch_build() if build is None else build
    if build.startswith("rocm"):
        return (root / "sys/module/amdgpu").exists()
    if build == "cpu":
        return False
    is_lent = (root / "dev/dxg").exists() and (root / "usr/lib/wsl/lib/libcuda.so.1").exists()
    return is_lent or any((root / "proc/driver/nvidia/gpus").glob("*"))


def is_on_card(device: str) -> bool:
    """Whether a trunk's device is a card; it is `auto` (as `has_accelerator` finds), `cpu`, `cuda` or `cuda:N`."""
    return device.startswith("cuda") or (device == "auto" and has_accelerator())


def torch_build() -> str:
    """What the installed torch is built for, without loading it: `cpu`, `cu130`, `rocm7.0`; empty for PyPI's, for CUDA.

    Without torch nothing but the CPU can be used.
    """
    try:
        return version("torch").partition("+")[2]
    except PackageNotFoundError:
        return "cpu"
