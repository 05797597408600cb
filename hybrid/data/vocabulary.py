"""The tags that a model knows, in the order of their ids."""

import unicodedata
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from workers.disk import write_whole
from workers.errors import DataError

HEADER = "#hybrid-tag-vocabulary v1 num_tags="
_MAX_ROUNDS = 4


def normalise_tag(text: str) -> str:
    """The one spelling under which a tag is known: NFKC, casefolded, trimmed, inner white space as single spaces.

    The two Unicode steps may undo each other for rare letters, so they are repeated until nothing changes. Lone
    surrogates, which no file in UTF-8 can hold, are removed. The result may be empty: such a tag is no tag.

    >>> normalise_tag("  Ｄeep\\tSEA ")
    'deep sea'
    """
    if text.isascii():
        return " ".join(text.lower().split())
    text = text.encode("utf-8", "ignore").decode()
    for _ in range(_MAX_ROUNDS):
        folded = " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).split())
        if folded == text:
            break
        text = folded
    return text


class TagVocabulary:
    """Tags by id, with the number of training items that carry each.

    Ids follow descending count, equal counts the order of code points, so frequent rows lie together in memory.

    The file format (`save`, `load`) is UTF-8 text. The first line is `#hybrid-tag-vocabulary v1 num_tags=N`; each of
    the N lines after it is `COUNT<TAB>TAG`, the tag of id 0 first. Tags are normalised, so they hold no tab and no line
    break.
    """

    def __init__(self, tags: Sequence[str], counts: np.ndarray) -> None:
        if len(tags) != len(counts):
            raise DataError(f"a vocabulary of {len(tags)} tags needs as many counts, got {len(counts)}.")
        self.tags = list(tags)
        self.counts = np.asarray(counts, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.tags)

    def __repr__(self) -> str:
        return f"TagVocabulary({len(self):,} tags)"

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {tag: i for i, tag in enumerate(self.tags)}

    def id_of(self, text: str) -> int | None:
        """The id of a tag in any spelling that normalises to it, or None."""
        return self._ids.get(normalise_tag(text))

    def save(self, path: Path) -> None:
        """Write the documented text format; the file is on the disk, whole, when this returns.

        Raises:
            RunError: it cannot be written; a file that was there before still is.
        """
        lines = [f"{count}\t{tag}" for count, tag in zip(self.counts.tolist(), self.tags, strict=True)]
        write_whole(Path(path), "\n".join([f"{HEADER}{len(self)}", *lines, ""]))

    @classmethod
    def load(cls, path: Path) -> "TagVocabulary":
        """Read the documented text format.

        Raises:
            DataError: the file is missing, cut short, or not of this format.
        """
        header, _, text = _read_text(Path(path)).partition("\n")
        if not header.startswith(HEADER) or not header.removeprefix(HEADER).isdecimal():
            raise DataError(f"{path}: the first line is {header[:60]!r}, expected '{HEADER}N'; is this a vocabulary?")
        num_tags = int(header.removeprefix(HEADER))
        # One split of the whole text instead of one per line: a third of the time, and no list per tag to collect.
        *fields, rest = text.replace("\t", "\n").split("\n")
        if len(fields) != 2 * num_tags or rest:
            got = f"{len(fields) // 2:,} whole lines of tags"
            raise DataError(f"{path}: holds {got}, its header says {num_tags:,}; the file is cut short.")
        try:
            return cls(fields[1::2], np.fromiter(map(int, fields[0::2]), dtype=np.int64, count=num_tags))
        except ValueError as e:
            raise DataError(f"{path}: a line is not COUNT<TAB>TAG ({e}).") from e


def is_whole_vocabulary(content: bytes, num_tags: int) -> bool:
    """Whether a file has the header of so many tags, a line for each, and is UTF-8: all but what the lines say."""
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return content.startswith(f"{HEADER}{num_tags}\n".encode()) and content.count(b"\n") == num_tags + 1


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as e:
        raise DataError(f"cannot read the vocabulary {path}: {e.strerror}.") from e
    except UnicodeDecodeError as e:
        raise DataError(f"{path}: not UTF-8 ({e}); is this a vocabulary?") from e
