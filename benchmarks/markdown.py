"""Tables in Markdown."""

from collections.abc import Sequence
from pathlib import Path


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is aligned left, the others right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def print_pages(*written: Path) -> None:
    """Print the pages among files, and where all of them are."""
    for path in written:
        if path.suffix == ".md":
            print(path.read_text(), end="\n\n")
    print(*written, sep="\n")
