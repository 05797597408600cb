"""Images that fit a query, best first."""

# Shapes: I images of the index, D dim.

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hybrid.data.vocabulary import TagVocabulary
from hybrid.image_index import ImageIndex
from hybrid.query import Query, query_vector_D, read_query
from hybrid.ranking import Rows
from workers.settings import positive_number

TAGS_SHOWN = 4
COMMON_SHARE = 0.03
"""Tags on a larger share of the training items say little about one picture: others are shown before them."""


class TaggedPictures(Protocol):
    """What search, sheets and galleries need of a data set."""

    @property
    def vocabulary(self) -> TagVocabulary: ...
    @property
    def names(self) -> Sequence[str]: ...
    @property
    def item_offsets(self) -> NDArray[np.int64]: ...
    @property
    def item_tags(self) -> NDArray[np.int32]: ...
    @property
    def train_items(self) -> NDArray[np.int64]: ...
    def describe(self, item: int) -> Mapping[str, Any]: ...
    def png(self, item: int, size: int) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Hit:
    """One image found."""

    item: int
    name: str
    title: str
    """What the data set calls the picture, or its name."""
    score: float
    is_true: bool
    """All tags of the query are true tags of the image."""
    tags: tuple[str, ...]
    """Some of its true tags."""

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "item": self.item,
            "name": self.name,
            "title": self.title,
            "score": self.score,
            "is_true": self.is_true,
            "tags": list(self.tags),
        }


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search found, and how the query was read."""

    query: Query
    tags: tuple[str, ...]
    """The tags behind the query."""
    num_images: int
    """Images looked through."""
    num_true: int
    """How many of them carry all tags of the query."""
    num_variants: int
    """Images passed over as variants of hits."""
    hits: tuple[Hit, ...]
    remark: str = ""
    """What of the data could not be searched, in one line; empty if there is nothing to say."""
    purpose: str = ""
    remedy: str = ""
    """What to do then: a command, and what it is for; empty without a remark."""

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "query": self.query.text,
            "is_tag": self.query.is_tag,
            "tags": list(self.tags),
            "unknown_words": list(self.query.unknown_words),
            "suggestions": list(self.query.suggestions),
            "images": self.num_images,
            "true_images": self.num_true,
            "variants": self.num_variants,
            "remark": self.remark,
            "remedy": self.remedy,
            "hits": [hit.plain() for hit in self.hits],
        }


def search(
    text: str, k: int, *, pictures: TaggedPictures, index: ImageIndex, rows: Rows, with_variants: bool = False
) -> SearchResult:
    """The k images of the index that score highest, by `row . features` (a tag's bias is the same for all images).

    Args:
        text: the query.
        k: images wanted; equal scores come in the order of the index.
        pictures: the data set that the index belongs to.
        index: the images to search.
        rows: the tag matrix.
        with_variants: keep more than the best of the pictures of one concept in one design (skin tones, genders).

    Raises:
        ConfigError: `k` is no number from 1 on.
        DataError: there is no word in the text.
    """
    k = positive_number("k", k)
    query = read_query(text, pictures.vocabulary)
    tags = tuple(pictures.vocabulary.tags[tag] for tag in query.tag_ids)
    if not query.tag_ids:
        return SearchResult(query, tags, len(index.items_I), 0, 0, ())
    scores_I = index.features_ID @ query_vector_D(query, rows)
    is_true_I = has_all_tags_I(pictures, index.items_I, query.tag_ids)
    order = best(scores_I, k if with_variants else len(scores_I))
    chosen = order.tolist() if with_variants else _first_of_variants(pictures, index.items_I, order, k)
    num_seen = int(np.flatnonzero(order == chosen[-1])[0]) + 1 if len(chosen) == k else len(order)
    words = title_words(pictures, index.items_I)
    hits = [_hit(pictures, query, int(index.items_I[i]), float(scores_I[i]), bool(is_true_I[i]), words) for i in chosen]
    return SearchResult(query, tags, len(index.items_I), int(is_true_I.sum()), num_seen - len(chosen), tuple(hits))


def best(scores_I: NDArray, k: int) -> NDArray[np.int64]:
    """Places of the k largest, largest first, earlier ones first among equals."""
    if k >= len(scores_I):
        return np.argsort(-scores_I, kind="stable")
    least = np.partition(scores_I, len(scores_I) - k)[len(scores_I) - k]
    candidates = np.flatnonzero(scores_I >= least)
    return candidates[np.argsort(-scores_I[candidates], kind="stable")][:k]


def has_all_tags_I(pictures: TaggedPictures, items_I: NDArray, tag_ids: Sequence[int]) -> NDArray[np.bool_]:
    """Whether each item carries every one of the tags."""
    return np.array([np.isin(tag_ids, true_tags(pictures, item)).all() for item in items_I], bool)


def true_tags(pictures: TaggedPictures, item: int) -> NDArray[np.int32]:
    """The known true tags of an item, ascending ids."""
    return pictures.item_tags[pictures.item_offsets[item] : pictures.item_offsets[item + 1]]


def title_words(pictures: TaggedPictures, items_I: NDArray) -> frozenset[str]:
    """The words of the items' titles: where tags come in many languages, these are of the one that readers share."""
    titles = {str(pictures.describe(item).get("title", "")) for item in items_I.tolist()}
    return frozenset(word.strip(":,.()“”").casefold() for title in titles for word in title.split())


def shown_tags(pictures: TaggedPictures, item: int, query: Query, words: frozenset[str]) -> tuple[str, ...]:
    """A few true tags that a reader of the query can read.

    First those of the query that are true. Then tags in the query's script: words that occur in titles before others,
    those that are so frequent that they say little last, frequent ones first. Then tags in other scripts.
    """
    vocabulary, script = pictures.vocabulary, script_of(query.text)
    too_common = COMMON_SHARE * len(pictures.train_items)
    ids = true_tags(pictures, item).tolist()

    def order(tag: int) -> tuple[bool, bool, bool, bool, int]:
        text = vocabulary.tags[tag]
        is_common = bool(vocabulary.counts[tag] > too_common)
        return tag not in query.tag_ids, script_of(text) != script, is_common, text not in words, tag

    return tuple(vocabulary.tags[tag] for tag in sorted(ids, key=order)[:TAGS_SHOWN])


def script_of(text: str) -> str:
    """The script of the first letter, as the first word of its Unicode name (`LATIN`, `CJK`, `ARABIC`), or ''."""
    letter = next((c for c in text if c.isalpha()), None)
    return unicodedata.name(letter, "").partition(" ")[0] if letter else ""


def _first_of_variants(pictures: TaggedPictures, items_I: NDArray, order: NDArray, k: int) -> list[int]:
    """The first k places of the order whose pictures are not of a concept and design that came before."""
    chosen: dict[tuple[Any, ...], int] = {}
    for place in order.tolist():
        known = pictures.describe(int(items_I[place]))
        key = (known["concept"], known.get("design")) if "concept" in known else (place,)
        chosen.setdefault(key, place)
        if len(chosen) == k:
            break
    return list(chosen.values())


def _hit(pictures: TaggedPictures, query: Query, item: int, score: float, is_true: bool, words: frozenset[str]) -> Hit:
    name = str(pictures.names[item])
    title = str(pictures.describe(item).get("title") or name)
    return Hit(item, name, title, score, is_true, shown_tags(pictures, item, query, words))
