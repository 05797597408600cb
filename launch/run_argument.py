"""The RUN argument of the command line: a path, a name under `runs/`, or `last`."""

from pathlib import Path

import click

from launch.runs import find_run


class RunArgument(click.ParamType):
    """Converts to the absolute run directory; RunError if there is none."""

    name = "RUN"

    def convert(self, value: str | Path, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        return value if isinstance(value, Path) else find_run(value)


RUN = RunArgument()
