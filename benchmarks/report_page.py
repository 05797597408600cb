"""The report as one HTML page that needs nothing beside it."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from markdown_it import MarkdownIt

from benchmarks.gates import NOT_MEASURED, OK, SHORT
from benchmarks.record import digest_of
from benchmarks.report_plots import gates_plot, inline, tags_plot
from benchmarks.verdict_table import HEADER, verdict_cells
from benchmarks.verdicts import newest_verdicts

_TEMPLATE = Path(__file__).with_name("report_template.html")
_CLASS = {OK: "ok", SHORT: "short", NOT_MEASURED: "unjudged"}
_WORDS = {OK: "gates reached", SHORT: "gates missed", NOT_MEASURED: "not measured"}
_ORDER = (SHORT, NOT_MEASURED, OK)

Record = Mapping[str, Any]


def report_page(records: Mapping[str, Record], pages: Mapping[str, str], plots: Mapping[str, str]) -> str:
    """The page.

    Args:
        records: all results, by name.
        pages: Markdown of each.
        plots: SVG files that suites drew themselves, by the same names; not all have one.
    """
    verdicts = newest_verdicts(records.values())
    parts = [_gates_section(verdicts), _tags_section(records)]
    links = ['<a href="#gates">Gates</a>']
    for name, markdown in pages.items():
        links.append(f'<a href="#{escape(name)}">{escape(name)}</a>')
        parts.append(_section(name, markdown, plots.get(name)))
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        digest=digest_of(records), links="\n".join(links), body="\n".join(parts)
    )


def _gates_section(verdicts: Sequence[Record]) -> str:
    counts = {verdict: sum(result["verdict"] == verdict for result in verdicts) for verdict in _ORDER}
    tally = "".join(
        f'<div class="{_CLASS[verdict]}"><b>{count}</b>{_WORDS[verdict]}</div>' for verdict, count in counts.items()
    )
    rows = sorted(verdicts, key=lambda result: _ORDER.index(result["verdict"]))
    head = "".join(f"<th>{escape(name)}</th>" for name in HEADER)
    body = "".join(_gate_row(result) for result in rows)
    return (
        f'<section id="gates"><div class="tally">{tally}</div>{_figure(gates_plot(verdicts))}'
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></section>'
    )


def _gate_row(result: Record) -> str:
    *cells, _ = verdict_cells(result)
    verdict = f'<b class="{_CLASS[result["verdict"]]}">{result["verdict"]}</b> {escape(result["reason"])}'
    return f'<tr>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}<td class="verdict">{verdict}</td></tr>'


def _tags_section(records: Mapping[str, Record]) -> str:
    plot = tags_plot(records)
    return f"<section><h2>Cost against the number of tags</h2>{_figure(plot)}</section>" if plot else ""


def _section(name: str, markdown: str, plot: str | None) -> str:
    html = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    html = html.replace("<h2>", "<h3>").replace("</h2>", "</h3>").replace("<h1>", "<h2>").replace("</h1>", "</h2>")
    html = html.replace("<table>", '<div class="scroll"><table>').replace("</table>", "</table></div>")
    drawn = f'<div class="plot foreign">{inline(plot)}</div>' if plot else ""
    return f'<section id="{escape(name)}">{html}{drawn}</section>'


def _figure(plot: str) -> str:
    return f'<div class="plot">{plot}</div>' if plot else ""
