"""How the trunk computes: where, in which precision, recorded or not."""

import torch
from torch import nn

from launch.config import PRECISIONS, TRUNKS, TrunkConfig
from workers.errors import ConfigError
from workers.settings import check, check_choice

_FIRST_WITH_BFLOAT16 = (8, 0)
"""Compute capability of the first NVIDIA cards that multiply bfloat16."""


def choose_device(asked: str) -> torch.device:
    """The trunk's device: CUDA if there is one under `auto`; else `cpu`, `cuda` or one of several, `cuda:1`.

    Raises:
        ConfigError: it is none of these, or CUDA was asked for, but torch does not find that device.
    """
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = _parse(asked)
    if device.type == "cuda" and not torch.cuda.is_available():
        build = torch.version.cuda or "none: this torch is a CPU-only build"
        raise ConfigError(
            f"trunk.device = {asked!r}, but torch finds no CUDA device (CUDA of the build: {build}). "
            'Use --device cpu, in Python device="cpu".'
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"trunk.device = {asked!r}, but torch finds {torch.cuda.device_count()} CUDA devices.")
    return device


def trunk_device(asked: str, trunk: nn.Module) -> torch.device:
    """As `choose_device`, but under `auto` a trunk that is on a card stays on it."""
    own = next((parameter.device for parameter in trunk.parameters()), None)
    return own if asked == "auto" and own is not None and own.type == "cuda" else choose_device(asked)


def _parse(asked: str) -> torch.device:
    try:
        device = torch.device(asked)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ConfigError(f"trunk.device = {asked!r}; expected auto, cpu, cuda, or one of several as in cuda:1.")
    return device


def choose_precision(asked: str | torch.dtype, device: torch.device) -> torch.dtype:
    """bfloat16 under `auto` where the device multiplies it natively, else float32; a name or torch's own constant.

    Raises:
        ConfigError: no such precision.
    """
    asked = str(asked).removeprefix("torch.")
    if asked != "auto":
        check_choice("trunk.precision", asked, PRECISIONS)
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[asked]
    is_native = cuda_multiplies_bfloat16(device) if device.type == "cuda" else cpu_multiplies_bfloat16()
    return torch.bfloat16 if is_native else torch.float32


def choose_cuda_graphs(config: TrunkConfig) -> bool:
    """Whether a run records its trunk's passes: under `auto` on a card, if the trunk is one of our own.

    Of others nobody but their author knows whether each pass does the same.

    Raises:
        ConfigError: it was asked for, and the device is no card.
    """
    is_card = choose_device(config.device).type == "cuda"
    if config.cuda_graphs == "auto":
        return is_card and config.factory in TRUNKS
    is_asked = config.cuda_graphs == "on"
    check(is_card or not is_asked, "trunk.cuda_graphs", "on", "auto or off: no CUDA device is found")
    return is_asked


def cuda_multiplies_bfloat16(device: torch.device) -> bool:
    """Whether this card has bfloat16 arithmetic; torch's own answer counts cards that emulate it, too."""
    return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= _FIRST_WITH_BFLOAT16


def cpu_multiplies_bfloat16() -> bool:
    """Whether this CPU has bfloat16 dot products (AVX512_BF16 or AMX); elsewhere autocast is slower than float32."""
    get_capabilities = getattr(torch.cpu, "get_capabilities", None)  # older releases of torch do not tell
    capabilities = {} if get_capabilities is None else get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def describe(device: torch.device) -> str:
    """The device's name, for logs and results."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
