"""Where the trunk computes, in which precision."""

import torch

from workers.errors import ConfigError


def choose_device(asked: str) -> torch.device:
    """The trunk's device: CUDA if there is one under `auto`.

    Raises:
        ConfigError: CUDA was asked for, but torch finds none.
    """
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if asked == "cuda" and not torch.cuda.is_available():
        build = torch.version.cuda or "none: this torch is a CPU-only build"
        raise ConfigError(
            f"trunk.device = 'cuda', but torch finds no CUDA device (CUDA of the build: {build}). Use --device cpu."
        )
    return torch.device(asked)


def choose_precision(asked: str, device: torch.device) -> torch.dtype:
    """bfloat16 under `auto` where the device multiplies it natively, else float32."""
    if asked != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[asked]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if cpu_multiplies_bfloat16() else torch.float32


def cpu_multiplies_bfloat16() -> bool:
    """Whether this CPU has bfloat16 dot products (AVX512_BF16 or AMX); elsewhere autocast is slower than float32."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def describe(device: torch.device) -> str:
    """The device's name, for logs and results."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
