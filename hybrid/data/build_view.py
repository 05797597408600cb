"""Making a view from a collection: choosing items, splitting them, numbering tags."""

# Shapes: I items, N tags, R raw tags.

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hybrid.data.collection import Collection, left_out
from hybrid.data.ragged import Ragged
from hybrid.data.skipped import write_skipped
from hybrid.data.splits import choose_items, split_by_hash
from hybrid.data.view import FACTS_FILE, FORMAT_VERSION, VOCABULARY_FILE, note_content
from hybrid.data.vocabulary import TagVocabulary
from workers.errors import DataError

MOST_HELD_OUT = 24
"""Pictures of one split key that validate or test; further ones are not used. Four designs in six skin tones are as
many; without a bound two subjects of emoji, with hundreds of pictures of couples each, were a third of the test."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitRule:
    """How items are divided."""

    test_fraction: float
    valid_fraction: float
    hold_out_design: str
    """Never trained or validated on; empty for none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TagRule:
    """Which tags of the training split are known."""

    min_count: int
    max_tags: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Splits:
    """Item numbers, int64 ascending."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    extra: dict[str, np.ndarray]
    num_spare: int
    """Items beyond `MOST_HELD_OUT`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureSource:
    """Where the view finds its pictures; paths as the view's folder sees them."""

    kind: str
    """`vector` or `photo`."""
    root: str
    images_folder: str | None
    """The decoded array, or None to decode on the fly."""
    size: int
    numbers: np.ndarray
    """int64 `[I]`: the item of the collection that each item of the view is."""
    rows: np.ndarray
    """int64 `[I]`: rows of the decoded array."""


def build_view(
    folder: Path,
    collection: Collection,
    pictures: PictureSource,
    split_rule: SplitRule,
    tag_rule: TagRule,
    facts: dict[str, Any],
) -> None:
    """Write a view into an existing folder beside its final one; `facts` has `fingerprint`, `source` and `skipped`."""
    items = pictures.numbers
    raw_tags_of = collection.tags_of.take(items)
    group = np.array(collection.groups, dtype=np.int32)[items] if collection.groups is not None else None
    keys, names = ([texts[i] for i in items] for texts in (collection.split_keys, collection.names))
    splits = split_items(keys, names, group, collection.group_names, split_rule)
    id_of_raw, counts, tags_dropped = choose_tags(
        raw_tags_of.take(splits.train).values, len(collection.raw_tags), tag_rule
    )
    vocabulary = TagVocabulary([collection.raw_tags[raw] for raw in _raw_of_id(id_of_raw, len(counts))], counts)
    tags_of = _known(raw_tags_of, id_of_raw)
    train, num_untagged = _with_tags(splits.train, tags_of)
    skipped: dict[str, dict[str, str]] = facts["skipped"]
    if not len(train):
        have = f"items: {len(items)}, of these for training: {len(splits.train)}"
        without = [left_out(skipped), *(f"{count:,} {what}" for what, count in tags_dropped.items() if count)]
        what = f"no picture with a known tag is left to train on ({have})"
        raise DataError(f"{facts['source']}: {what}. Left out: {'; '.join(filter(None, without))}.")
    dropped = {f"items {reason}": len(names) for reason, names in skipped.items()} | {
        "training items without known tags": num_untagged,
        f"held-out items, more than {MOST_HELD_OUT} of one subject": splits.num_spare,
    }
    arrays = {
        "counts": counts,
        "marginal": draw_marginal(tags_of.take(train), len(counts)),
        "item_offsets": tags_of.offsets,
        "item_tags": tags_of.values,
        "num_unseen_tags": (raw_tags_of.lengths() - tags_of.lengths()).astype(np.int32),
        "train_items": train,
        "valid_items": splits.valid,
        "test_items": splits.test,
        "picture_numbers": np.arange(len(items)) if pictures.kind == "photo" else items,
        "image_rows": pictures.rows,
    }
    arrays |= {f"extra_test-{name}": of for name, of in splits.extra.items()} | (
        {} if group is None else {"group": group}
    )
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    vocabulary.save(folder / VOCABULARY_FILE)
    _write_items(folder, collection, items, pictures.kind == "photo")
    write_skipped(folder, skipped)
    dropped = {name: count for name, count in (tags_dropped | dropped).items() if count}
    _write_facts(folder, collection, pictures, {**facts, "dropped": dropped, "extra_test": list(splits.extra)})
    note_content(folder)


def split_items(
    keys: list[str], names: list[str], group: np.ndarray | None, group_names: list[str], rule: SplitRule
) -> Splits:
    """Split by the hash of the keys, take the held-out design away from all of them, leave `MOST_HELD_OUT` of each key.

    The held-out design's items of training concepts become a test set of their own, which measures the change of style
    alone. Its items of validation and test concepts are left unused: on those, style and subject would be new together.
    """
    train, valid, test = split_by_hash(keys, rule.test_fraction, rule.valid_fraction)
    extra = {}
    if rule.hold_out_design and group is not None:
        is_held_out = group == group_names.index(rule.hold_out_design)
        extra = {rule.hold_out_design: train[is_held_out[train]]}
        train, valid, test = (part[~is_held_out[part]] for part in (train, valid, test))
    num_held_out = len(valid) + len(test) + sum(map(len, extra.values()))
    valid, test = (_few_of_each(part, keys, names) for part in (valid, test))
    extra = {name: _few_of_each(part, keys, names) for name, part in extra.items()}
    num_spare = num_held_out - len(valid) - len(test) - sum(map(len, extra.values()))
    return Splits(train=train, valid=valid, test=test, extra=extra, num_spare=num_spare)


def _few_of_each(items: np.ndarray, keys: list[str], names: list[str]) -> np.ndarray:
    """At most `MOST_HELD_OUT` items of each key, chosen by a hash of their names."""
    of_key: dict[str, list[int]] = {}
    for item in items.tolist():
        of_key.setdefault(keys[item], []).append(item)
    few = [np.array(own)[choose_items([names[i] for i in own], MOST_HELD_OUT)] for own in of_key.values()]
    return np.sort(np.concatenate([np.empty(0, np.int64), *few]))


def choose_tags(train_raw: np.ndarray, num_raw: int, rule: TagRule) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """Number the known tags by descending training count, equal counts by text.

    Args:
        train_raw: raw tags of all training items, one after another; raw tags are numbered in the order of their text.
        num_raw: R.
        rule: what is known.

    Returns:
        int32 `[R]` the id of each raw tag or -1, int64 `[N]` the training counts, what was dropped.
    """
    raw_counts = np.bincount(train_raw, minlength=num_raw)
    order = np.argsort(-raw_counts, kind="stable")
    num_seen = int(np.count_nonzero(raw_counts))
    num_frequent = int(np.count_nonzero(raw_counts >= rule.min_count))
    num_known = min(num_frequent, rule.max_tags) if rule.max_tags else num_frequent
    id_of_raw = np.full(num_raw, -1, dtype=np.int32)
    id_of_raw[order[:num_known]] = np.arange(num_known, dtype=np.int32)
    dropped = {
        "tags not in the training split": num_raw - num_seen,
        f"tags on fewer than {rule.min_count} training items": num_seen - num_frequent,
        f"tags beyond the {rule.max_tags} most frequent": num_frequent - num_known,
    }
    return id_of_raw, raw_counts[order[:num_known]].astype(np.int64), dropped


def draw_marginal(tags_of: Ragged, num_tags: int) -> np.ndarray:
    """float64 `[N]`: u(t) = mean over items of 1[t in T(x)] / |T(x)|; every item has a tag."""
    lengths = tags_of.lengths()
    return np.bincount(tags_of.values, weights=np.repeat(1.0 / lengths, lengths), minlength=num_tags) / len(lengths)


def _raw_of_id(id_of_raw: np.ndarray, num_tags: int) -> np.ndarray:
    known = np.flatnonzero(id_of_raw >= 0)
    raw_of_id = np.empty(num_tags, dtype=np.int64)
    raw_of_id[id_of_raw[known]] = known
    return raw_of_id


def _known(raw_tags_of: Ragged, id_of_raw: np.ndarray) -> Ragged:
    ids = Ragged(raw_tags_of.offsets, id_of_raw[raw_tags_of.values])
    return ids.keep(ids.values >= 0).sorted_rows()


def _with_tags(items: np.ndarray, tags_of: Ragged) -> tuple[np.ndarray, int]:
    """Items with a known tag, and how many have none: from those nothing can be learned."""
    has_tags = tags_of.lengths()[items] > 0
    return items[has_tags], int(np.count_nonzero(~has_tags))


def _write_facts(folder: Path, collection: Collection, pictures: PictureSource, facts: dict[str, Any]) -> None:
    plain = {
        "format": FORMAT_VERSION,
        "fingerprint": facts["fingerprint"],
        "source": facts["source"],
        "facts": collection.facts,
        "licences": collection.licences,
        "dropped": facts["dropped"],
        "group_names": collection.group_names,
        "extra_test": facts["extra_test"],
        "pictures": pictures.kind,
        "pictures_root": pictures.root,
        "images_folder": pictures.images_folder,
        "size": pictures.size,
    }
    (folder / FACTS_FILE).write_text(json.dumps(plain, indent=1), encoding="ascii")


def _write_items(folder: Path, collection: Collection, items: np.ndarray, are_files: bool) -> None:
    with (folder / "items.jsonl").open("w", encoding="ascii") as file:
        file.writelines(json.dumps([collection.names[i], collection.details[i]]) + "\n" for i in items)
    if are_files:
        (folder / "picture_names.json").write_text(json.dumps([collection.names[i] for i in items]), encoding="ascii")
