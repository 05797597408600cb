"""How many workers there are where nobody says it."""

from workers.accelerator import is_on_card
from workers.cores import available_cores


def default_num_workers(device: str = "auto") -> int:
    """Two to eight, of the cores that may be used: all but one beside an accelerator, else the quarter that a trunk on
    the CPU can spare.

    Args:
        device: of the trunk, `auto`, `cpu`, `cuda` or `cuda:N`; `auto` is what `has_accelerator` finds without torch.
    """
    cores = available_cores()
    return max(2, min(cores - 1 if is_on_card(device) else cores // 4, 8))
