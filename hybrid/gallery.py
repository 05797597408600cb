"""The gallery of a run: queries in many languages with the held-out pictures found for them."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hybrid.curves import curves_svg
from hybrid.evaluation import MEASURES, shown
from hybrid.image_index import ImageIndex
from hybrid.page import header, legend, page, query_section, section, table
from hybrid.ranking import Rows
from hybrid.search import TaggedPictures, search, true_tags
from launch.config import RunConfig
from workers.disk import write_whole

NUM_QUERIES = 12
PICTURES_PER_QUERY = 8
LEAST_TRUE = 3
"""A query needs so many true pictures among those searched, or little could be found for it."""
PREFERRED = (
    *("fruit", "cat", "हाथ", "鳥", "heart", "花", "食べ物", "музыка", "water", "flagge", "bateau", "قلب"),
    *("고양이", "flower", "música", "dom", "ψάρι", "בית"),
)
"""Queries that show languages and scripts, tried in this order on any data set."""
MEANING = {
    "P@1": "share of pictures whose first tag is true",
    "P@3": "share of true tags among the first 3",
    "P@5": "share of true tags among the first 5",
    "nDCG@5": "the same, earlier places counting more; 1 is the best possible",
    "PSP@1": "true first tags, rare ones counting more",
    "PSP@5": "true tags among the first 5, rare ones counting more",
    "R@10": "share of all true tags found in the first 10",
    "mAP": "quality of the order of pictures for a tag; 1 is perfect",
    "distinct tags": "different tags among all first fives",
}


class GalleryPictures(TaggedPictures, Protocol):
    """A data set with what its makers ask to be said."""

    @property
    def licences(self) -> Mapping[str, str]: ...


def write_gallery(
    path: Path,
    *,
    name: str,
    config: RunConfig,
    pictures: GalleryPictures,
    index: ImageIndex,
    rows: Rows,
    tables: Mapping[str, Mapping[str, Any]],
    lines: Sequence[dict[str, Any]],
) -> None:
    """Write the gallery as one self-contained HTML file, whole or not at all.

    Args:
        path: the file.
        name: of the run.
        config: its settings.
        pictures: the data set (a `View`).
        index: the held-out images to search, with their features.
        rows: the tag matrix.
        tables: what `evaluate` returned, by what it was measured on (`valid`, `test`, ...); `valid` is not shown.
        lines: of `metrics.jsonl`.
    """
    queries = choose_queries(pictures, index.items_I)
    results = [search(query, PICTURES_PER_QUERY, pictures=pictures, index=index, rows=rows) for query in queries]
    curves = curves_svg(lines)
    if results:
        how_to_read = legend()
    else:
        how_to_read = '<p class="note">No query is shown: too few of the pictures searched have a tag in common.</p>'
    body = [
        header("hybrid · pictures found by words", name, facts(config, pictures, index, lines)),
        *(
            metrics_section(split, measured, is_chosen="valid" in tables)
            for split, measured in tables.items()
            if split != "valid"
        ),
        how_to_read,
        *(query_section(result, pictures) for result in results),
        section("The run", f"<figure>{curves}</figure>") if curves else "",
        _footer(pictures),
    ]
    write_whole(path, page(f"{name} · hybrid", body))


def choose_queries(pictures: TaggedPictures, items_I: NDArray) -> list[str]:
    """Tags to show: preferred ones that are known and have enough true pictures, then frequent ones of the middle.

    To fill up, tags with at least `LEAST_TRUE` true pictures among those searched, and on at most a tenth of them, are
    visited from the most frequent in training down; then those on more, but not on all, from the rarest up. One that
    shares more than half of its pictures with a query chosen before is passed over.
    """
    vocabulary = pictures.vocabulary
    items_of = _items_by_tag(pictures, items_I)
    chosen: dict[int, set[int]] = {}
    candidates = [tag for tag in map(vocabulary.id_of, PREFERRED) if tag is not None]
    for tag in [*candidates, *_further_tags(pictures, items_of, len(items_I))]:
        found = items_of.get(tag, set())
        is_new = all(len(found & other) * 2 <= len(found) for other in chosen.values())
        if tag not in chosen and len(found) >= LEAST_TRUE and (tag in candidates or is_new):
            chosen[tag] = found
        if len(chosen) == NUM_QUERIES:
            break
    return [vocabulary.tags[tag] for tag in chosen]


def facts(
    config: RunConfig, pictures: TaggedPictures, index: ImageIndex, lines: Sequence[dict[str, Any]]
) -> dict[str, str]:
    """What the run was, for the head of the page."""
    train = config.train
    budget = f"{train.epochs:g} epochs" if train.epochs is not None else f"{train.minutes or 0:g} minutes"
    steps = max((line["step"] for line in lines), default=0)
    return {
        "Data": config.data.source,
        "Vocabulary": f"{len(pictures.vocabulary):,} tags",
        "Trained on": f"{len(pictures.train_items):,} pictures",
        "Searched": f"{len(index.items_I):,} held-out pictures",
        "Trunk": f"{config.trunk.factory}, {config.data.image_size} px, dim {config.trunk.dim}",
        "Budget": f"{budget}, {steps:,} steps",
        "Workers": f"{config.workers}",
    }


def metrics_section(split: str, measured: Mapping[str, Any], *, is_chosen: bool) -> str:
    """A table of measures beside popularity's.

    Args:
        split: what was measured on.
        measured: what `evaluate` returned.
        is_chosen: whether there were validation pictures to choose the temperature on.
    """
    popular = measured["popularity"]
    rows = [(name, shown(name, measured[name]), shown(name, popular[name]), MEANING[name]) for name in MEASURES]
    low, high = measured["mAP bounds"]
    caption = (
        f"{measured['items']:,} pictures that training never saw. "
        f"mAP: mean over {measured['mAP tags']:,} tags with {low} to {high} true pictures among these. "
        f"Tags are ranked by probability, at temperature {measured['temperature']:g}"
        f"{', chosen on validation pictures' if is_chosen else ''}."
    )
    title = "Held-out pictures" if split == "test" else f"Held-out pictures: {split}"
    return section(title, table(("Measure", "This run", "Popularity", "What it says"), rows, caption))


def _items_by_tag(pictures: TaggedPictures, items_I: NDArray) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for item in items_I.tolist():
        for tag in true_tags(pictures, item).tolist():
            found.setdefault(tag, set()).add(item)
    return found


def _further_tags(pictures: TaggedPictures, items_of: dict[int, set[int]], num_searched: int) -> list[int]:
    """Ids ascend as training counts fall, so their order is that of frequency."""
    most = max(num_searched // 10, LEAST_TRUE)
    seen = np.flatnonzero(pictures.vocabulary.counts > 0).tolist()
    middle = [tag for tag in seen if LEAST_TRUE <= len(items_of.get(tag, ())) <= most]
    return middle + [tag for tag in reversed(seen) if most < len(items_of.get(tag, ())) < num_searched]


def _footer(pictures: GalleryPictures) -> str:
    owners = "".join(f"<li>{escape(what)}: {escape(text)}</li>" for what, text in pictures.licences.items())
    return f"<footer>Pictures and tags:<ul>{owners}</ul></footer>" if owners else "<footer>Made by hybrid.</footer>"
