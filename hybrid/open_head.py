"""What a wide head says once it was closed, whatever it is asked."""

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from workers.errors import HeadClosed, MatrixMismatch

P = ParamSpec("P")
R = TypeVar("R")


class _Closes(Protocol):
    is_closed: bool


S = TypeVar("S", bound=_Closes)


def check_open(head: _Closes) -> None:
    """Raise HeadClosed if the head was closed."""
    if head.is_closed:
        raise HeadClosed(
            "this head was closed: its workers and its memory are gone, with rows that were not saved. Load a saved "
            'one by WideHead.load("head/"), or make another.'
        )


def while_open(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """A method that a closed head refuses, also one that another thread closes while the method reads its memory."""

    @functools.wraps(method)
    def while_open(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        check_open(self)
        try:
            return method(self, *args, **kwargs)
        except MatrixMismatch:  # of arrays that are gone, or of its own
            check_open(self)
            raise

    return while_open
