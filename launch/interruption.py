"""How a run ends early because its user wants it."""


class Interrupted(Exception):
    """The run ends before its work is done, because it was asked to."""


class StoppedBeforeStart(Interrupted):
    """There was no step yet: nothing had to be saved, and nothing is lost."""

    def __init__(self) -> None:
        super().__init__("stopped before the first step")
