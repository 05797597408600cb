"""The list of what a view left out, one line for each item."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from hybrid.data.cache import damaged

SKIPPED_FILE = "skipped.tsv"


def write_skipped(folder: Path, skipped: Mapping[str, Mapping[str, str]]) -> None:
    """Write it into a view's folder: lines of reason, name and what was found, tab-separated.

    Args:
        folder: of the view.
        skipped: reason -> name -> what was found.
    """
    lines = (
        f"{as_field(reason)}\t{as_field(name)}\t{as_field(found)}\n"
        for reason, names in skipped.items()
        for name, found in names.items()
    )
    with (folder / SKIPPED_FILE).open("w", encoding="utf-8") as file:
        file.writelines(lines)


def read_skipped(path: Path) -> Iterator[tuple[str, str, str]]:
    """Reason, name and what was found of each item, as fields.

    Raises:
        DataError: the list is gone or damaged.
    """
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                reason, name, found = line.rstrip("\n").split("\t")
                yield reason, name, found
    except (OSError, ValueError) as e:
        raise damaged(path, e) from e


def as_field(text: str) -> str:
    """Text without tabs and line ends, and with escapes for what is not Unicode in a file's name."""
    return " ".join(text.split()).encode("utf-8", "backslashreplace").decode()
