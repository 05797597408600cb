"""All items of a source with all their tags, before anything is split or left out."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hybrid.data.cache import damaged
from hybrid.data.ragged import Ragged


@dataclass(frozen=True, kw_only=True, slots=True)
class Collection:
    """Items are numbered 0 to len(names) - 1; raw tags are numbered in the order of their text."""

    names: list[str]
    """A unique name per item: its path, or its design and code points."""
    split_keys: list[str]
    """What the split hashes; items with equal keys stay together."""
    groups: list[int] | None
    """The design of each item, as an index into `group_names`."""
    group_names: list[str]
    details: list[dict[str, str]]
    """What else is known of each item, for people to read."""
    raw_tags: list[str]
    """Distinct normalised tags, sorted."""
    tags_of: Ragged
    """Numbers in `raw_tags`, ascending in each row."""
    licences: dict[str, str]
    skipped: dict[str, dict[str, str]] = field(default_factory=dict)
    """Reason for leaving items out -> item name -> what was found."""
    facts: dict[str, int] = field(default_factory=dict)
    """Counts worth reporting that nothing else records."""

    def save(self, folder: Path) -> None:
        """Write into an existing folder."""
        with (folder / "items.jsonl").open("w", encoding="ascii") as file:
            for item in zip(self.names, self.split_keys, self.details, strict=True):
                file.write(json.dumps(item) + "\n")
        (folder / "raw_tags.txt").write_text("\n".join(self.raw_tags), encoding="utf-8", newline="\n")
        np.save(folder / "tag_offsets.npy", self.tags_of.offsets)
        np.save(folder / "tag_values.npy", self.tags_of.values)
        plain = {name: getattr(self, name) for name in ("groups", "group_names", "licences", "skipped", "facts")}
        (folder / "collection.json").write_text(json.dumps(plain), encoding="ascii")

    @classmethod
    def open(cls, folder: Path) -> "Collection":
        """Read what `save` wrote; big arrays are memory-mapped.

        Raises:
            DataError: a file of it is gone or damaged.
        """
        try:
            return cls._read(folder)
        except (OSError, ValueError, EOFError, LookupError, TypeError) as e:
            raise damaged(folder, e) from e

    @classmethod
    def _read(cls, folder: Path) -> "Collection":
        with (folder / "items.jsonl").open(encoding="ascii") as file:
            names, split_keys, details = _columns([json.loads(line) for line in file])
        text = (folder / "raw_tags.txt").read_bytes().decode("utf-8")
        return cls(
            names=names,
            split_keys=split_keys,
            details=details,
            raw_tags=text.split("\n") if text else [],
            tags_of=Ragged(_load(folder / "tag_offsets.npy"), _load(folder / "tag_values.npy")),
            **json.loads((folder / "collection.json").read_text(encoding="ascii")),
        )


def left_out(skipped: dict[str, dict[str, str]]) -> str:
    """How many items were left out for each reason, with what was found for the first of them."""
    return "; ".join(
        f"{len(names):,} items {reason} (the first, {name!r}: {found})"
        for reason, names in skipped.items()
        for name, found in list(names.items())[:1]
    )


def _columns(rows: list[list[Any]]) -> tuple[list[Any], list[Any], list[Any]]:
    return [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]


def _load(path: str | os.PathLike[str]) -> np.ndarray:
    return np.load(path, mmap_mode="r", allow_pickle=False)
