"""How many CPU threads a trunk starts with."""

from collections.abc import Mapping, MutableMapping

_WISHES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Where users say it of all their programs: torch by itself looks at these."""
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


def plan_threads(cores: int, workers: int, device: str, asked: int) -> int:
    """CPU threads that a trunk starts with: with one for each worker no more than the cores, wherever that can be.

    On a machine without an accelerator the trunk is the larger consumer by far, yet it must not take every core:
    convolutions go backward in step, their threads spinning at barriers, and one thread that a worker pushes off its
    core stops all of them (two cores, two workers: 1,107 examples/s with one thread, 863 with two; on a machine that
    others use too, 794 and 25). So the workers' cores are theirs, and at least a quarter of all cores is left to them
    and to the preparation of batches. From there a trunk on the CPU goes on by measurement: workers that rest most of
    the time leave it their cores (`hybrid.thread_tuner`). With an accelerator the trunk's threads only prepare batches.

    Args:
        cores: cores that may be used.
        workers: worker processes, one thread each; where there are none, the trunk has the machine to itself.
        device: `auto`, `cpu`, `cuda` or `cuda:N`; `auto` is planned as `cpu`: only the trunk knows what it will find.
        asked: what the user wants; 0 leaves the choice to this function.

    Example:
        >>> plan_threads(cores=2, workers=2, device="auto", asked=0)
        1
        >>> plan_threads(cores=16, workers=2, device="cpu", asked=0), plan_threads(16, 8, "cpu", 0)
        (12, 8)
        >>> plan_threads(cores=16, workers=2, device="cuda", asked=0)
        14
        >>> plan_threads(cores=16, workers=8, device="cpu", asked=3)
        3
    """
    if asked > 0:
        return asked
    reserved = workers if device.startswith("cuda") or not workers else max(workers, cores // 4)
    return max(1, cores - reserved)


def exported_wish(environment: Mapping[str, str]) -> tuple[str, int]:
    """The variable in which a user has said how many threads programs shall have, with the number; "" and 0 if in none.

    Example:
        >>> exported_wish({"OMP_NUM_THREADS": "4,1", "MKL_NUM_THREADS": "2"})
        ('OMP_NUM_THREADS', 4)
        >>> exported_wish({"OMP_NUM_THREADS": "", "MKL_NUM_THREADS": "many"})
        ('', 0)
    """
    for name in _WISHES:
        outermost = environment.get(name, "").partition(",")[0].strip()
        if outermost.isdecimal() and int(outermost) > 0:
            return name, int(outermost)
    return "", 0


def set_threads(environment: MutableMapping[str, str], threads: int) -> None:
    """Set the thread counts that torch, BLAS and numba read once, when they are loaded."""
    for name in _THREAD_VARIABLES:
        environment[name] = str(threads)
