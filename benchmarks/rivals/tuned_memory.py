"""What a careful user of torch sets for memory: huge pages for large tensors, freed temporaries kept for the next."""

import ctypes
import os

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_NEVER_BYTES = (1 << 31) - 1
_KEPT_BYTES = 1 << 28
LARGEST_KEPT_BYTES = _NEVER_BYTES
"""The most that glibc takes, for whoever frees gigabytes in every step."""
MEMORY_TUNING = {
    "THP_MEM_ALLOC_ENABLE": "1",
    "MALLOC_MMAP_THRESHOLD_": str(_KEPT_BYTES),
    "MALLOC_TRIM_THRESHOLD_": str(_NEVER_BYTES),
}
"""The same as variables for a process that is still to be started, which need not know of it."""


def tune_memory(kept_bytes: int = _KEPT_BYTES) -> None:
    """For this process; call it before the first tensor is made, when torch looks at the environment.

    Without it each step's temporaries are mapped, faulted in page by page and unmapped again. NumPy asks for huge pages
    by itself. glibc before 2.35 keeps nothing above 32 MiB, whatever it is told.

    Args:
        kept_bytes: temporaries up to this size stay with the process.
    """
    os.environ["THP_MEM_ALLOC_ENABLE"] = "1"
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # absent outside glibc
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, kept_bytes)
        mallopt(_M_TRIM_THRESHOLD, _NEVER_BYTES)
