"""A data set as a run sees it: split, numbered and ready to be read."""

# Shapes: I items, N tags, B items of a batch.

import hashlib
import io
import json
import logging
import os
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hybrid.data.cache import damaged
from hybrid.data.content import content_of
from hybrid.data.images import BadImage
from hybrid.data.pictures import PhotoPictures, Pictures, VectorPictures
from hybrid.data.ragged import Ragged
from hybrid.data.skipped import SKIPPED_FILE
from hybrid.data.store import EncodedImages, ImageStore, in_parts, open_decoded
from hybrid.data.vocabulary import TagVocabulary, is_whole_vocabulary
from workers.disk import write_whole
from workers.errors import DataError
from workers.matrix_data import ARRAYS

FORMAT_VERSION = 2
VOCABULARY_FILE = "vocabulary.tsv"
FACTS_FILE = "view.json"
_GREY = 200
logger = logging.getLogger(__name__)


class View:
    """Items 0 to I - 1 with their pictures, their tags and the split they belong to.

    Everything lies in one folder of the cache; arrays are memory-mapped. The vocabulary, its order, the counts and the
    marginal come from the training split only.
    """

    def __init__(self, folder: Path, pictures_root: Path | None = None) -> None:
        """Open what lies in `folder`; pictures are read in `pictures_root`, None: where they were when it was made."""
        self.folder, self._root = folder, pictures_root
        self._facts = _read_facts(folder)
        self.fingerprint: str = self._facts["fingerprint"]
        """Of what it was made from: place, names, sizes and times of change of the files. What has another one may hold
        the same, see `content`."""
        self.source: str = self._facts["source"]
        self.dropped: dict[str, int] = self._facts["dropped"]
        """What was left out, by reason."""
        self.facts: dict[str, int] = self._facts["facts"]
        self.licences: dict[str, str] = self._facts["licences"]
        """Attribution per design, and of the tags."""
        self.group_names: list[str] = self._facts["group_names"]
        self.group = self._load("group") if self.group_names else None
        """int32 `[I]`: the design of each item, an index into `group_names`; None where there are no designs."""
        self.train_items = self._load("train_items")
        self.valid_items = self._load("valid_items")
        self.test_items = self._load("test_items")
        self.extra_test = {name: self._load(f"extra_test-{name}") for name in self._facts["extra_test"]}
        """Further test sets by name: with a held-out design, its items of training concepts."""
        self.item_offsets = self._load("item_offsets")
        """int64 `[I + 1]`."""
        self.item_tags = self._load("item_tags")
        """int32: the tags of item i, ascending, are `item_tags[item_offsets[i] : item_offsets[i + 1]]`."""
        self.num_unseen_tags = self._load("num_unseen_tags")
        """int32 `[I]`: true tags of each item that are not in the vocabulary."""
        self.marginal = self._load("marginal")
        """float64 `[N]`: the distribution of positives drawn uniformly from a training item's known tags."""
        self._numbers = self._load("picture_numbers")
        self.pictures = self._open_pictures()
        self.images: ImageStore = self._open_images()
        self.bad_items: dict[int, str] = {}
        """Items whose pictures turned out to be unreadable since this view was opened, with the reason."""

    def __len__(self) -> int:
        return len(self.num_unseen_tags)

    def __repr__(self) -> str:
        return f"View({self.source}: {len(self):,} items, {len(self.marginal):,} tags)"

    @cached_property
    def vocabulary(self) -> TagVocabulary:
        """Tags by id."""
        return TagVocabulary.load(self.folder / VOCABULARY_FILE)

    def save_vocabulary(self, path: Path) -> None:
        """Copy the file of the vocabulary, without the time that reading so many tags takes.

        Raises:
            DataError: the cache was damaged.
            RunError: the file cannot be written.
        """
        write_whole(path, self._vocabulary_text())

    def _vocabulary_text(self) -> bytes:
        source = self.folder / VOCABULARY_FILE
        try:
            text = source.read_bytes()
        except OSError as e:
            raise damaged(source, e) from e
        if not is_whole_vocabulary(text, len(self.marginal)):
            raise damaged(source, f"no vocabulary of {len(self.marginal):,} tags")
        return text

    @cached_property
    def content(self) -> str:
        """A digest of what training sees: names and order of the items, tags, splits, vocabulary, and pictures.

        Of pictures of a folder it knows the pixels as they are stored. Of those that are too many to be stored it knows
        the size in bytes of each file, so that one which was edited and kept its size looks the same; of drawings, the
        text. It is computed here for a view that an earlier version made: by files as they are now, if none is stored.
        """
        return str(self._facts.get("content") or self._digest())

    def _digest(self) -> str:
        has_pixels = self.images.is_decoded and self._facts["pictures"] == "photo"
        about = {
            "pictures": "pixels" if has_pixels else self._facts["pictures"],
            "shape": [self.images.size, self.images.channels],
            "names": self.names,
            "vocabulary": hashlib.blake2b(self._vocabulary_text()).hexdigest(),
        }
        arrays = {name: self._load(name) for name in ("item_offsets", "item_tags", "num_unseen_tags")}
        arrays |= {"train": self.train_items, "valid": self.valid_items, "test": self.test_items}
        arrays |= {f"extra-{name}": items for name, items in self.extra_test.items()}
        if has_pixels:
            return content_of(about, arrays, (part.data for part in in_parts(self.images)))
        return content_of(about, arrays, (self.pictures.trace(number) for number in self._numbers.tolist()))

    @property
    def tags_of(self) -> Ragged:
        """The known tags of all items."""
        return Ragged(self.item_offsets, self.item_tags)

    @cached_property
    def names(self) -> list[str]:
        """A unique name per item: its path, or its design and code points."""
        return [name for name, _ in self._items]

    @property
    def skipped_path(self) -> Path:
        """Names of the items that were left out, see `hybrid.data.skipped`."""
        return self.folder / SKIPPED_FILE

    def describe(self, item: int) -> dict[str, str]:
        """What is known of an item, for people: `name` and `title`; of emoji also character, design, code, concept."""
        name, details = self._items[item]
        return {"name": name, **details}

    def png(self, item: int, size: int) -> bytes:
        """The picture for people to look at: from the source at the size wanted; if it is gone, as it was stored."""
        try:
            return self.pictures.png(int(self._numbers[item]), size)
        except BadImage as e:
            logger.warning("%r cannot be shown as it is (%s), but as it was stored.", self.names[item], e)
            return self._stored_png(item)

    def _stored_png(self, item: int) -> bytes:
        """The picture as training reads it; a grey square where it was to be read from the source."""
        images, _ = self.images.read(np.array([item]))
        grey = np.full((self.images.size, self.images.size, 3), _GREY, np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(images[0] if len(images) else grey).save(buffer, "PNG")
        return buffer.getvalue()

    @cached_property
    def _items(self) -> list[tuple[str, dict[str, str]]]:
        path = self.folder / "items.jsonl"
        try:
            with path.open(encoding="ascii") as file:
                items = [json.loads(line) for line in file]
        except (OSError, ValueError) as e:
            raise damaged(path, e) from e
        if len(items) != len(self):
            raise damaged(path, f"{len(items):,} items, expected {len(self):,}")
        return items

    def _load(self, name: str) -> np.ndarray:
        path = self.folder / f"{name}.npy"
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as e:
            raise damaged(path, e) from e

    def _open_pictures(self) -> Pictures:
        root = self._root or self.folder / self._facts["pictures_root"]
        if self._facts["pictures"] == "vector":
            return VectorPictures(root)
        path = self.folder / "picture_names.json"
        try:
            return PhotoPictures(root, json.loads(path.read_text(encoding="ascii")))
        except (OSError, ValueError) as e:
            raise damaged(path, e) from e

    def _open_images(self) -> ImageStore:
        if self._facts["images_folder"] is None:
            return EncodedImages(self.pictures, self._numbers, self._facts["size"])
        images_folder = Path(os.path.normpath(self.folder / self._facts["images_folder"]))
        return open_decoded(images_folder, self.folder, self._load("image_rows"))


def note_content(folder: Path) -> None:
    """Have a view say its content, unless it does: later, pictures that are not stored may be others.

    Raises:
        RunError: it cannot be written.
    """
    view = View(folder)
    if "content" not in view._facts:
        write_whole(folder / FACTS_FILE, json.dumps({**view._facts, "content": view.content}, indent=1))


def checked_head_folder(view: View) -> Path:
    """The view's folder, once what the tag matrix is made from is found whole: the launcher reads it by path.

    Raises:
        DataError: the cache was damaged.
    """
    counts, marginal, offsets, tags = map(view._load, ARRAYS)
    if len(counts) != len(marginal) or len(offsets) != len(view) + 1 or offsets[-1] != len(tags):
        raise DataError(
            f"prepared data are damaged: the arrays in {view.folder} do not fit together. Remove it: it is made again."
        )
    return view.folder


def _read_facts(folder: Path) -> dict[str, Any]:
    try:
        facts = json.loads((folder / FACTS_FILE).read_text(encoding="ascii"))
    except (OSError, ValueError) as e:
        raise DataError(f"{folder} holds no prepared data ({e}). Remove {folder}: it is made again.") from e
    if facts.get("format") != FORMAT_VERSION:
        raise DataError(
            f"{folder} holds prepared data of format {facts.get('format')!r}, expected {FORMAT_VERSION}. "
            f"Remove {folder}: it is made again."
        )
    return facts
