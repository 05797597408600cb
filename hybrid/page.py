"""The pieces of a page that opens from disk: one HTML file with its style and pictures inside, and no script."""

import base64
from collections.abc import Mapping, Sequence
from html import escape

from hybrid.page_style import STYLE
from hybrid.search import Hit, SearchResult, TaggedPictures

PNG_SIZE = 128
"""Pixels of the pictures in a page; they are shown at about 100."""


def page(title: str, body: Sequence[str]) -> str:
    """A whole page."""
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>",
            *body,
            "</main>\n</body>\n</html>\n",
        ]
    )


def header(overline: str, title: str, facts: Mapping[str, str]) -> str:
    """The top of a page: what it is, its name, and facts as a list of terms."""
    terms = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    top = f'<p class="overline">{escape(overline)}</p>\n<h1 dir="auto">{escape(title)}</h1>'
    return f'<header>{top}\n<dl class="facts">{terms}</dl></header>'


def legend() -> str:
    """How to read the pictures under a query."""
    return (
        '<p class="legend"><span class="mark" aria-hidden="true">✓</span> and a frame: the picture carries every tag '
        "of the query. Beneath each picture: its name, then some of its true tags. Pictures come best first. "
        "Variants of a picture in the same design (skin tones, genders) may be left out but for the best.</p>"
    )


def query_section(result: SearchResult, pictures: TaggedPictures) -> str:
    """A query on top, the pictures found beneath it."""
    cards = "\n".join(card(hit, pictures) for hit in result.hits)
    remark = f'<p class="found">{escape(result.remark)}</p>\n' if result.remark else ""
    if result.remedy:
        remark += f'<p class="found">{escape(result.purpose)}: <code>{escape(result.remedy)}</code></p>\n'
    return (
        f'<section class="query">\n<h2 dir="auto">{escape(result.query.text)}</h2>\n'
        f'<p class="found">{escape(found(result))}</p>\n{remark}<ol class="cards">\n{cards}\n</ol>\n</section>'
    )


def found(result: SearchResult) -> str:
    """In one line: how the query was read, how many hits are true, how many could be."""
    query, parts = result.query, []
    if not result.tags:
        hint = f": did you mean {', '.join(query.suggestions)}?" if query.suggestions else ""
        return f"no tag of that name, nor of its words{hint}"
    if query.unknown_words:
        parts.append(f"unknown, so left out: {', '.join(query.unknown_words)}")
    if not query.is_tag:
        parts.append(f"searched for {_together(result.tags)}")
    num_hits, searched = sum(hit.is_true for hit in result.hits), f"{result.num_images:,} searched"
    if result.num_true:
        parts.append(f"true: {num_hits} of the {len(result.hits)} shown, {result.num_true:,} of all {searched}")
    else:
        wanted = "this tag" if len(result.tags) == 1 else "all of these tags"
        parts.append(f"none of the {searched} has {wanted}, these are the nearest")
    if result.num_variants:
        variants = "variant" if result.num_variants == 1 else "variants"
        parts.append(f"{result.num_variants} {variants} of these left out")
    return " · ".join(parts)


def _together(tags: Sequence[str]) -> str:
    return f"{tags[0]} alone" if len(tags) == 1 else f"the mean of {', '.join(tags)}"


def card(hit: Hit, pictures: TaggedPictures) -> str:
    """One picture with what is true of it."""
    source = base64.b64encode(pictures.png(hit.item, PNG_SIZE)).decode()
    tags = "".join(f"<li><bdi>{escape(tag)}</bdi></li>" for tag in hit.tags)
    mark = '<span class="mark" aria-hidden="true">✓</span>' if hit.is_true else ""
    spoken = "true of the query" if hit.is_true else "not true of the query"
    return (
        f'<li class="card{" true" if hit.is_true else ""}"><div class="tile">'
        f'<img src="data:image/png;base64,{source}" alt="{escape(hit.title)}" loading="lazy">{mark}</div>'
        f'<p class="title" title="{escape(hit.name)}"><bdi>{escape(hit.title)}</bdi>'
        f'<span class="spoken">, {spoken}</span></p><ul class="tags">{tags}</ul></li>'
    )


def section(title: str, *parts: str) -> str:
    """A titled part of a page."""
    return f"<section>\n<h2>{escape(title)}</h2>\n" + "\n".join(parts) + "\n</section>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    """A table whose first column names its rows; columns between the first and the last hold numbers."""
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    lines = []
    for name, *cells in rows:
        body = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        lines.append(f'<tr><th scope="row">{escape(name)}</th>{body}</tr>')
    return (
        f'<div class="scroll"><table><caption>{escape(caption)}</caption>\n<thead><tr>{heads}</tr></thead>\n'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )
