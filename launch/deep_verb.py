"""Verbs that need torch: this process becomes `python -m hybrid VERB`."""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from launch.child import TRUNK_COMMAND
from workers.environment import child_environment
from workers.quiet_interrupt import interrupts_held_back


def run_deep_verb(verb: str, arguments: Sequence[str], options: Mapping[str, object]) -> NoReturn:
    """Replace this process, so that exit status, output, signals and the terminal are the other's own.

    Args:
        verb: a verb of `python -m hybrid`.
        arguments: positional; may begin with a dash.
        options: flags with values; True is a flag alone, False and None leave it out.
    """
    command = [*TRUNK_COMMAND, verb]
    for flag, value in options.items():
        if value is True:
            command.append(flag)
        elif value is not None and value is not False:
            command += [flag, str(value)]
    if sys.stdout is not None:  # as it is where a shell closed it
        sys.stdout.flush()
    with interrupts_held_back():
        os.execve(command[0], [*command, "--", *arguments], child_environment())
