"""What command lines of benchmarks have in common: types of options, how an error is told."""

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from benchmarks.record import RESULTS, check_folder
from workers.errors import ConfigError, HybridError, RunError


def run_program(main: Callable[[], int | None]) -> NoReturn:
    """End with the status of `main`, of an error of ours with its message: 2 for a setting that cannot be, else 1."""
    try:
        sys.exit(main())
    except HybridError as e:
        print(f"Error: {e}", file=sys.stderr)
        sys.exit(2 if isinstance(e, ConfigError) else 1)


def positive_int(text: str) -> int:
    """The type of an option that counts something of which there must be some."""
    return _at_least(1, text)


def count(text: str) -> int:
    """The type of an option that counts, and may be 0."""
    return _at_least(0, text)


def positive_float(text: str) -> float:
    """The type of an option that measures something."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return number


def named_run(text: str) -> tuple[str, Path]:
    """The type of NAME=RUN: a name for a table with a run directory."""
    name, equals, directory = text.partition("=")
    if not (name and equals and directory):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=RUN, a name for the table with the path of a run")
    return name, Path(directory)


def add_results(parser: argparse.ArgumentParser, what: str = "JSON and table") -> None:
    """The option `--results`; that the folder takes them is seen at once, before anything is measured."""
    help_text = f"folder for {what}; default: benchmarks/results"
    parser.add_argument("--results", type=_writable_folder, default=str(RESULTS), help=help_text)


def _at_least(least: int, text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least {least}")
    return number


def _writable_folder(text: str) -> Path:
    folder = Path(text)
    try:
        check_folder(folder)
    except RunError as e:
        raise argparse.ArgumentTypeError(str(e)) from e
    return folder
