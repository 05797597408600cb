"""What the checkpoints of a run are going to cost."""

from workers.disk import ASSUMED_BYTES_PER_S

_WORTH_TELLING = 0.1


def checkpoint_remark(num_bytes: int, pause_s: float) -> str:
    """What to tell whose checkpoints may take more than a tenth of the time; empty for all others.

    Args:
        num_bytes: of the tag matrix.
        pause_s: seconds between two checkpoints, at most.

    Example:
        >>> checkpoint_remark(40 * 10**9, pause_s=300.0)
        'a checkpoint of 40 GB may take 133 s, and comes every 300 s: train.checkpoint_minutes makes them rarer'
    """
    cost_s = num_bytes / ASSUMED_BYTES_PER_S
    if cost_s <= _WORTH_TELLING * (cost_s + pause_s):
        return ""
    return (
        f"a checkpoint of {num_bytes / 1e9:.0f} GB may take {cost_s:.0f} s, and comes every {pause_s:.0f} s: "
        "train.checkpoint_minutes makes them rarer"
    )
