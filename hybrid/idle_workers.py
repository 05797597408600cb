"""Workers that a run has and never gives anything to do."""

from launch.config import RunConfig


def idle_workers(config: RunConfig) -> str | None:
    """What to say of them, if there are any.

    Example:
        >>> idle_workers(RunConfig(workers=4)) is None
        True
        >>> (idle_workers(RunConfig(workers=9)) or "").partition(":")[0]
        '5 of 9 workers have nothing to do'
    """
    num_idle = config.workers - config.chunks_per_step
    if num_idle <= 0:
        return None
    return (
        f"{num_idle} of {config.workers} workers have nothing to do: a step has {config.chunks_per_step} chunks, each "
        "of which is one worker's. Larger batches, or a smaller head.chunk_size, give work to more."
    )
