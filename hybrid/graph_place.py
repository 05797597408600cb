"""When a graph is recorded for calls that come again and again."""

from typing import Generic, Protocol, TypeVar

Form = tuple[object, ...]
"""All that a recorded call takes for granted."""

WARM_UPS = 2
"""Calls in a row of equal form before one is recorded: libraries load their kernels and choose among them then."""


class Drained(Protocol):
    """A graph."""

    def drain(self) -> None:
        """Wait until it is not in use."""


G = TypeVar("G", bound=Drained)


class Place(Generic[G]):
    """A call that comes again and again: which form it had of late, and a graph for one of the forms."""

    def __init__(self) -> None:
        self.graph: G | None = None
        self.recorded_form: Form = ()
        self._form: Form = ()
        self._num_alike = 0

    def note(self, form: Form) -> None:
        """A call of this form comes now."""
        self._num_alike = self._num_alike + 1 if form == self._form else 1
        self._form = form

    @property
    def is_outgrown(self) -> bool:
        """Whether another form than the graph's has come twice in a row; the last batch of an epoch comes once."""
        return self.graph is not None and self._num_alike > 1 and self._form != self.recorded_form

    @property
    def is_due(self) -> bool:
        """Whether the form that came last is to be recorded."""
        return self.graph is None and self._num_alike > WARM_UPS

    def let_go(self) -> None:
        """Give back what the graph takes."""
        if self.graph is not None:
            self.graph.drain()
            self.graph = None
