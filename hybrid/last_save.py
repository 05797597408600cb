"""The last checkpoint of a training, for which a full disk is given time."""

import time
from collections.abc import Callable

from hybrid.supervision import Supervision
from workers.errors import RunError

_LIMIT_S, _PAUSE_S = 1800.0, 15.0
"""How long attempts go on, and how long after one the next is made."""
_TICK_S = 0.5
"""How long the launcher is not heard meanwhile."""


def save_at_last(save: Callable[[], None], serve: Callable[[], None], supervision: Supervision) -> None:
    """Save; while that fails, say so and try again: what was learned since the checkpoint before would be lost.

    A wish to stop that comes while it waits ends it. One that came before is why this is the last checkpoint. That
    there are no workers any more is no such wish: a save needs none.

    Args:
        save: writes the checkpoint.
        serve: takes in what workers and launcher say.
        supervision: is told, and knows of wishes to stop.

    Raises:
        RunError: of the last attempt.
    """
    limit_s, was_asked, is_told = time.monotonic() + _LIMIT_S, supervision.is_told_to_stop, False
    while True:
        try:
            save()
            return
        except RunError as e:
            if time.monotonic() > limit_s or supervision.is_told_to_stop != was_asked:
                raise
            if not is_told:
                every = f"tried again every {_PAUSE_S:g} s for {_LIMIT_S / 60:g} minutes"
                supervision.tell("note", text=f"{e} It is the last one, and is {every}.")
            is_told = True
        next_s = time.monotonic() + _PAUSE_S
        while time.monotonic() < next_s and supervision.is_told_to_stop == was_asked:
            supervision.progress("save", "waiting for room to save the last checkpoint")
            serve()
            time.sleep(_TICK_S)
