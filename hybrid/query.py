"""What a query in words means to a model: the tags behind it."""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rapidfuzz import fuzz, process

from hybrid.data.vocabulary import TagVocabulary
from hybrid.ranking import Rows
from workers.errors import DataError

NUM_SUGGESTIONS = 5
LEAST_SIMILARITY = 60.0
"""Of 100; suggestions below it would not look like the query."""
_COMMAS = re.compile("[,;،、，；]")
"""What stands between tags, in any script."""


@dataclass(frozen=True, slots=True)
class Query:
    """A query in words, read against a vocabulary."""

    text: str
    tag_ids: tuple[int, ...]
    """The query itself if it is a tag, else its parts between commas and its words that are; empty if none is known."""
    is_tag: bool
    """The whole text is one tag."""
    unknown_words: tuple[str, ...] = ()
    suggestions: tuple[str, ...] = ()
    """Tags that look like the query; only where nothing is known."""


def read_query(text: str, vocabulary: TagVocabulary) -> Query:
    """An exact tag, else those known of the parts between commas and their words, else suggestions.

    Spelling is normalised as the vocabulary's is. A part that is a tag is not taken apart: `sea lion, water` is two.

    Raises:
        DataError: there is no word in it, or it is no text.
    """
    if not isinstance(text, str):
        raise DataError(f"the query is a {type(text).__name__}; expected text.")
    tag = _seen(text, vocabulary)
    if tag is not None:
        return Query(text, (tag,), is_tag=True)
    words = {word: _seen(word, vocabulary) for word in _words(text, vocabulary)}
    if not words:
        raise DataError(f"the query {text!r} holds no word: give one at least, or several, such as 'red, sea lion'.")
    known = tuple(dict.fromkeys(tag for tag in words.values() if tag is not None))
    unknown = tuple(word for word, tag in words.items() if tag is None)
    if known:
        return Query(text, known, is_tag=False, unknown_words=unknown)
    return Query(text, (), is_tag=False, unknown_words=unknown, suggestions=suggest(text, vocabulary))


def suggest(text: str, vocabulary: TagVocabulary) -> tuple[str, ...]:
    """Tags spelt most like the text, best first, frequent ones first among equals."""
    found = process.extract(
        " ".join(text.casefold().split()),
        vocabulary.tags,
        scorer=fuzz.ratio,
        limit=NUM_SUGGESTIONS,
        score_cutoff=LEAST_SIMILARITY,
    )
    return tuple(tag for tag, _, _ in found)


def query_vector_D(query: Query, rows: Rows) -> NDArray[np.float32]:
    """The row that ranks images: a tag's own, or the mean of the words' rows.

    Each word's row is first scaled to length 1, so that a word whose row is long does not drown the others.
    """
    found = np.stack([np.array(rows.rows(tag, tag + 1)[0], np.float32) for tag in query.tag_ids])
    if query.is_tag:
        return found[0]
    return (found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)).mean(axis=0)


def _words(text: str, vocabulary: TagVocabulary) -> list[str]:
    """The parts between commas that are tags, and the words of the others, in their order."""
    parts = [part.strip() for part in _COMMAS.split(text)]
    return [word for part in parts for word in ([part] if _seen(part, vocabulary) is not None else part.split())]


def _seen(text: str, vocabulary: TagVocabulary) -> int | None:
    tag = vocabulary.id_of(text)
    return tag if tag is not None and vocabulary.counts[tag] > 0 else None
