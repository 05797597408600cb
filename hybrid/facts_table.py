"""Facts about a data set as a table for a terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text


def facts_table(facts: Mapping[str, Any], title: str) -> Table:
    """Facts by name; a mapping of facts becomes lines beneath its name, numbers have separators."""
    table = Table(title=Text(title), title_justify="left", show_header=False)
    table.add_column("fact")
    table.add_column("value", justify="right", overflow="fold")
    for name, value in _lines(facts):
        table.add_row(Text(name), Text(value))
    return table


def _lines(facts: Mapping[str, Any], depth: int = 0) -> Iterator[tuple[str, str]]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield "  " * depth + str(name), ""
            yield from _lines(value, depth + 1)
        else:
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            yield "  " * depth + str(name), f"{value:,}" if is_number else str(value)
