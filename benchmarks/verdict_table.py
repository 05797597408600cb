"""The table at the end of every suite: value, spread, gate, ambition, verdict."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.gates import NO_GATE, NOT_MEASURED, OK, SHORT, WORDS_THEN, words_of_today
from benchmarks.markdown import markdown_table
from benchmarks.page import page_text

HEADER = ("figure", "value", "quartiles", "gate", "ambition", "verdict")
_HOW = (
    "Contestants take turns within a round; a value is the median of the rounds, a ratio is taken within each round. "
    "Rounds in which the machine had other things to do do not count."
)
_RENAMED = "Figures are called as their gates are today; the record of these has other words:"
_AHEAD = re.compile(r", \d+ rows ahead")
"""How far it fetches ahead each start finds anew."""
_FILE_WIDTH = 160
_WORDS = {OK: "reached", SHORT: "missed", NOT_MEASURED: "not measured"}
_STYLE = {OK: "green", SHORT: "bold red", NOT_MEASURED: "bold yellow", NO_GATE: "dim"}


def print_verdicts(results: Iterable[Mapping[str, Any]], console: Console | None = None) -> None:
    """Print a row for each result of `Measurement.as_json`; without colour where there is no terminal."""
    console = console or Console()
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    table = Table(*HEADER, title="What was measured")
    for result in results:
        cells = [Text(cell) for cell in verdict_cells(result)]
        cells[-1].stylize(_STYLE[result["verdict"]])
        table.add_row(*cells)
    console.print(table)


def verdicts_markdown(results: Sequence[Mapping[str, Any]]) -> str:
    """The same of results from JSON, as Markdown."""
    return markdown_table(HEADER, [verdict_cells(result) for result in results])


def verdict_page(record: Mapping[str, Any], judged: Sequence[Mapping[str, Any]], told: str = "") -> str:
    """The page of a suite, in Markdown.

    Args:
        record: its JSON.
        judged: the record's results as `benchmarks.verdicts.judged_again` gives them.
        told: what else there is to say below the table.
    """
    every_what = [result["what"] for result in record["results"]]
    renamed = [
        f"- {today['what']} (in the record: {what})"
        for today, what in zip(judged, every_what, strict=True)
        if today["what"] != words_of_today(what)
    ]
    renamed += [
        f"- {today} (in the record: {then})"
        for then, today in WORDS_THEN.items()
        if any(then in what for what in every_what)
    ]
    notes = [told] if told else []
    notes += ["\n".join([_RENAMED, "", *renamed])] if renamed else []
    ceilings = dict.fromkeys(filter(None, map(_ceiling_of, record["results"])))
    notes += [f"The ceiling is {'; or '.join(ceilings)}."] if ceilings else []
    return page_text(record, verdicts_markdown(judged), *notes, _HOW)


def _ceiling_of(result: Mapping[str, Any]) -> str | None:
    """The program that rewrote bare rows beside it, and how it was built; None: there was none."""
    samples = result.get("samples")
    facts = samples.get("facts") if isinstance(samples, Mapping) else None
    program = facts.get("ceiling") if facts else None
    return _AHEAD.split(program)[0] if program else None


def tally(results: Iterable[Mapping[str, Any]]) -> str:
    """How many are of which verdict, in a line."""
    verdicts = [result["verdict"] for result in results]
    counts = [f"{verdicts.count(verdict)} {word}" for verdict, word in _WORDS.items()]
    return f"{len(verdicts)} gates: {', '.join(counts)}."


def verdict_cells(result: Mapping[str, Any]) -> list[str]:
    """One row, as text."""
    spread, sign = result["spread"], {"at least": "≥ ", "at most": "≤ "}.get(result["direction"] or "", "")
    value = shown(result["value"], result["unit"]) if spread else "—"
    quartiles = f"{shown(spread['low_quartile'])} to {shown(spread['high_quartile'])}" if spread else "—"
    bounds = [f"{sign}{result[k]:,g}" if result[k] is not None else "" for k in ("gate", "ambition")]
    verdict = "" if result["verdict"] == NO_GATE else result["verdict"]
    if result["verdict"] == NOT_MEASURED:
        verdict = verdict.upper()
    return [result["what"], value, quartiles, *bounds, ": ".join(filter(None, (verdict, result["reason"])))]


def shown(value: float, unit: str = "") -> str:
    """A number with three significant digits and its unit.

    Example:
        >>> shown(0.7449, "x"), shown(3012.4, "x"), shown(41.26, "ns")
        ('0.745x', '3,012x', '41.3 ns')
    """
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{text}{'' if unit in ('', 'x') else ' '}{unit}"
