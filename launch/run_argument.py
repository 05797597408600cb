"""The RUN argument of the command line: a path, a name under `runs/`, or `last`."""

from pathlib import Path
from typing import Final

import click

from launch.runs import find_run


class RunArgument(click.ParamType):
    """Converts to the absolute run directory; RunError if there is none.

    Args:
        is_trained: `last` is the newest run that has a checkpoint; it is said if another was started since.
    """

    name = "RUN"

    def __init__(self, *, is_trained: bool = False) -> None:
        self._is_trained = is_trained

    def convert(self, value: str | Path, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if isinstance(value, Path):
            return value
        found = find_run(value, is_trained=self._is_trained)
        newest = find_run(value)
        if found != newest:
            click.echo(f"last is {found.name}: {newest.name}, started since, has no checkpoint.", err=True)
        return found


RUN: Final = RunArgument()
TRAINED_RUN: Final = RunArgument(is_trained=True)
