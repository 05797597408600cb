"""Results as tables for a terminal."""

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hybrid.evaluation import MEASURES, shown
from hybrid.neighbours import ScoredTag
from hybrid.page import found
from hybrid.search import SearchResult


def metrics_table(measured: Mapping[str, Any], title: str) -> Table:
    """What `measure_splits` returned of a split: each measure beside popularity's."""
    low, high = measured["mAP bounds"]
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.caption = (
        f"{measured['items']:,} items; mAP over {measured['mAP tags']:,} tags with {low} to {high} true items; "
        f"ranked by {measured['score']}, temperature {measured['temperature']:g}"
    )
    table.add_column("measure")
    for name in ("model", "popularity", "difference"):
        table.add_column(name, justify="right")
    for name in MEASURES:
        model, popular = measured[name], measured["popularity"][name]
        table.add_row(name, shown(name, model), shown(name, popular), _difference(name, model, popular))
    return table


def _difference(name: str, model: float | None, popular: float | None) -> str:
    if model is None or popular is None:
        return shown(name, None)
    return f"{model - popular:+,}" if name == "distinct tags" else f"{model - popular:+.3f}"


def search_table(result: SearchResult) -> RenderableType:
    """Pictures found, best first; a tick marks those that carry every tag of the query."""
    summary = Text(f"{result.query.text}: {found(result)}")
    remark = [Text(result.remark)] if result.remark else []
    if not result.hits:
        return Group(summary, *remark)
    table = Table()
    table.add_column("", justify="right", style="dim")
    table.add_column("true")
    table.add_column("score", justify="right", no_wrap=True)
    have_titles = any(hit.title not in (hit.name, PurePath(hit.name).stem) for hit in result.hits)
    for name in ("picture", "name", "some of its tags") if have_titles else ("picture", "some of its tags"):
        table.add_column(name, overflow="fold")
    for place, hit in enumerate(result.hits, start=1):
        names = (hit.title, "" if hit.name == hit.title else hit.name) if have_titles else (hit.name,)
        cells = map(Text, (*names, ", ".join(hit.tags)))
        table.add_row(str(place), "✓" if hit.is_true else "", f"{hit.score:.2f}", *cells)
    return Group(summary, table, *remark)


def tags_table(tags: Sequence[ScoredTag], title: str, score_name: str) -> Table:
    """Tags with their scores, best first: neighbours, or an annotation."""
    table = Table(title=Text(title), title_justify="left")
    table.add_column("", justify="right", style="dim")
    table.add_column("tag", overflow="fold")
    table.add_column(score_name, justify="right")
    table.add_column("in training", justify="right")
    for place, found_tag in enumerate(tags, start=1):
        table.add_row(str(place), Text(found_tag.tag), f"{found_tag.score:.3f}", f"{found_tag.count:,}")
    return table
