"""Verbs that need torch: this process becomes `python -m hybrid VERB`."""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from launch.child import TRUNK_COMMAND
from workers.environment import child_environment


def run_deep_verb(
    verb: str, arguments: Sequence[str], options: Mapping[str, object] | None = None, *, json_output: bool = False
) -> NoReturn:
    """Replace this process, so that exit status, output, signals and the terminal are the other's own.

    Args:
        verb: a verb of `python -m hybrid`.
        arguments: positional; may begin with a dash.
        options: flags with values; those with None are left out.
    """
    command = [*TRUNK_COMMAND, verb]
    for flag, value in (options or {}).items():
        if value is not None:
            command += [flag, str(value)]
    if json_output:
        command.append("--json")
    sys.stdout.flush()
    os.execve(command[0], [*command, "--", *arguments], child_environment())
