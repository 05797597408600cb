"""The page in Markdown that is made from a record."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.record import read_record, shown_command, surroundings
from workers.disk import write_whole

Record = Mapping[str, Any]
MEASURES = ("P@1", "P@5", "PSP@5", "mAP")
"""Of quality, that tables show where nothing more is asked."""


def page_text(record: Record, *parts: str) -> str:
    """The title, the parts, where and when it was measured, by which command."""
    title, command = f"# {record['title']}", f"`{shown_command(record)}`"
    return "\n\n".join([title, *parts, surroundings(record), command]) + "\n"


def write_page(path: Path, text_of: Callable[[Record], str]) -> Path:
    """Write the page beside the JSON, from which `text_of` makes it; returns its path."""
    page = path.with_suffix(".md")
    write_whole(page, text_of(read_record(path)))
    return page


def print_pages(*written: Path) -> None:
    """Print the pages among files, and where all of them are."""
    for path in written:
        if path.suffix == ".md":
            print(path.read_text(), end="\n\n")
    print(*written, sep="\n")
