"""From the settings of a data set to a view of it, doing only what was not done before."""

import contextlib
import itertools
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hybrid.data import emoji, folder
from hybrid.data.build_view import PictureSource, SplitRule, TagRule, build_view
from hybrid.data.cache import ProgressCallback, build_once, key_of
from hybrid.data.collection import Collection, left_out
from hybrid.data.image_cache import decode_all, fits_decoded, probe_all, read_bad
from hybrid.data.listing import scan
from hybrid.data.pictures import PhotoPictures, Pictures, VectorPictures
from hybrid.data.skipped import read_skipped
from hybrid.data.splits import choose_items
from hybrid.data.view import FORMAT_VERSION, View, note_content
from launch.config import DataConfig
from workers.cache_root import cache_root
from workers.errors import ConfigError, DataError, RunError

logger = logging.getLogger(__name__)

_MAX_NAMED = 20
_FOLDER_VALID_FRACTION = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class _Source:
    """What a kind of source contributes."""

    key: str
    folder: Path
    """Of the collection."""
    build: Callable[[Path], None]
    """Writes the collection into a folder."""
    kind: str
    pictures_root: Path
    pictures_key: Callable[[list[str]], str]
    """Names the pictures of the items named, whatever tags they have."""
    split_rule: SplitRule


def silent(text: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


def any_view(folder: Path) -> None:
    """A check that takes all data."""


def stored_size(image_size: int) -> int:
    """Side at which pictures are stored: at least a third more than the trunk sees, in whole steps of 16 pixels.

    Augmentation enlarges and turns pictures; with this margin it finds real detail. Plain bilinear interpolation does
    not alias while it shrinks by less than 2. Resampling to the trunk's size stays below that from 17 pixels on.
    Together with the strongest augmentation it does at 48, the default, and from 86 on. The worst size is 13: it
    shrinks by 2.5, with augmentation by 3.3.
    """
    return -(-image_size * 4 // 3 // 16) * 16


def prepare(
    config: DataConfig, progress: ProgressCallback = silent, check_view: Callable[[Path], None] = any_view
) -> View:
    """The data set as a view, prepared in the cache if it is not there yet.

    Calling it again is quick. It may be killed at any time, and called by several processes at once.

    Args:
        config: which data, how they are split, where the cache is.
        progress: called with a text, how much is done, out of how much.
        check_view: called with the view's folder, which is another one where files lie at another place or were written
            at another time, once they are listed and before any is read; may refuse them by an error of its own.

    Raises:
        ConfigError: a setting does not fit the source.
        DataError: the source cannot be read or fetched, nothing in it can be trained on, or a file could not be read
            for trouble of the machine.
    """
    cache = cache_root(config.cache_dir)
    source = _emoji(config, cache, progress) if config.source == "emoji" else _folder(config, cache, progress)
    size = stored_size(config.image_size)
    fingerprint = key_of(
        FORMAT_VERSION,
        source.key,
        size,
        config.max_items,
        config.min_count,
        config.max_tags,
        config.hold_out_design,
        source.split_rule.test_fraction,
    )
    destination = cache / "views" / fingerprint
    check_view(destination)
    build_once(source.folder, source.build, progress)
    if not destination.is_dir():
        _make_view(destination, config, source, size, fingerprint, progress)
    with contextlib.suppress(RunError):  # of an earlier version, in a cache for reading alone: it is computed again
        note_content(destination)
    view = View(destination)
    _log_dropped(view)
    return view


def _emoji(config: DataConfig, cache: Path, progress: ProgressCallback) -> _Source:
    key = emoji.emoji_key()
    place = cache / "collections" / key
    rule = SplitRule(
        test_fraction=emoji.TEST_FRACTION, valid_fraction=emoji.VALID_FRACTION, hold_out_design=config.hold_out_design
    )
    return _Source(
        key=key,
        folder=place,
        build=lambda target: emoji.build_emoji(target, cache / "npm", progress),
        kind="vector",
        pictures_root=place,
        pictures_key=lambda names: f"{key}-{key_of(names)}",
        split_rule=rule,
    )


def _folder(config: DataConfig, cache: Path, progress: ProgressCallback) -> _Source:
    if config.hold_out_design:
        raise ConfigError(f"data.hold_out_design = {config.hold_out_design!r}, but only the emoji data have designs.")
    progress("listing files", 0, 0)
    listing = scan(config.source.removeprefix("folder:"), cache)
    key = listing.key
    valid_fraction = _FOLDER_VALID_FRACTION * (1 - config.hold_out_fraction)
    rule = SplitRule(test_fraction=config.hold_out_fraction, valid_fraction=valid_fraction, hold_out_design="")
    return _Source(
        key=key,
        folder=cache / "collections" / key,
        build=lambda target: folder.build_folder(target, listing, progress),
        kind="photo",
        pictures_root=listing.root,
        pictures_key=listing.pictures_key,
        split_rule=rule,
    )


def _make_view(
    destination: Path, config: DataConfig, source: _Source, size: int, fingerprint: str, progress: ProgressCallback
) -> None:
    collection = Collection.open(source.folder)
    if not collection.names:
        advice = f" {folder.HOW_TO_TAG}" if collection.skipped.get(folder.WITHOUT_TAGS) else ""
        raise DataError(f"{config.source}: no picture with tags. Left out: {left_out(collection.skipped)}.{advice}")
    chosen = choose_items(collection.names, config.max_items)
    pictures: Pictures = (
        VectorPictures(source.folder)
        if source.kind == "vector"
        else PhotoPictures(source.pictures_root, collection.names)
    )
    is_decoded = fits_decoded(len(chosen), size, pictures.channels)
    work, suffix = (decode_all, f"{size}px") if is_decoded else (probe_all, "probed")
    key = source.pictures_key([collection.names[i] for i in chosen])
    checked = build_once(
        destination.parent.parent / "images" / f"{key}-{suffix}",
        lambda target: work(pictures, chosen, size, target, progress),
        progress,
    )
    bad = read_bad(checked)
    is_good = np.ones(len(chosen), dtype=bool)
    is_good[list(bad)] = False
    where = PictureSource(
        kind=source.kind,
        root=str(source.pictures_root) if source.kind == "photo" else os.path.relpath(source.folder, destination),
        images_folder=os.path.relpath(checked, destination) if is_decoded else None,
        size=size,
        numbers=chosen[is_good],
        rows=np.flatnonzero(is_good),
    )
    unreadable = {collection.names[chosen[row]]: why for row, why in sorted(bad.items())}
    facts: dict[str, Any] = {
        # A picture that can be read the next time is an item more: other numbers, other data.
        "fingerprint": key_of(fingerprint, sorted(unreadable)) if unreadable else fingerprint,
        "source": config.source,
        "skipped": collection.skipped | {"with unreadable pictures": unreadable},
    }
    tag_rule = TagRule(min_count=config.min_count, max_tags=config.max_tags)
    progress("numbering tags", 0, 0)
    build_once(
        destination, lambda target: build_view(target, collection, where, source.split_rule, tag_rule, facts), progress
    )


def _log_dropped(view: View) -> None:
    """Count and name what was left out, each time the data are opened: it belongs into every run's log."""
    for reason, count in view.dropped.items():
        logger.info("left out: %s: %s", reason, f"{count:,}")  # said when they are made; no news to who opens them
    skipped = read_skipped(view.skipped_path)
    for reason, name, found in itertools.islice(skipped, _MAX_NAMED):
        logger.info("skipped %s: %s: %s", name, reason, found)
    if next(skipped, None):
        logger.info("the names of all skipped items are in %s", view.skipped_path)
