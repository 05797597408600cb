"""The other forms of a rival, beside the one that its gate judges."""

from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.gates import GATES, OK
from benchmarks.verdict_table import shown

Result = Mapping[str, Any]


def other_forms(gate: str, results: Iterable[Result]) -> list[Result]:
    """Ratios against the same rival in other forms than the one that is judged."""
    return [r for r in results if r["gate"] is None and r["unit"] == "x" and r["name"].startswith(f"{gate}, ")]


def missed_forms(result: Result, results: Iterable[Result]) -> list[str]:
    """Of a gate that is reached: the other forms of the rival against which it would be missed, with the ratios."""
    if result["verdict"] != OK:
        return []
    name = result["name"]
    return [
        f"{shown(form['value'], 'x')} against {form['name'].removeprefix(f'{name}, ')}"
        for form in other_forms(name, results)
        if form["value"] is not None and not GATES[name].holds(form["value"])
    ]


def naming_missed_forms(result: Result, results: Iterable[Result]) -> Result:
    """The result, whose reason names the forms of the rival, found in results, against which its gate would be missed.

    Every table of verdicts says so: those of a suite, in the terminal and on its page, and those in documents.
    """
    forms = missed_forms(result, results)
    note = f"missed in other forms: {'; '.join(forms)}" if forms else ""
    return {**result, "reason": "; ".join(filter(None, (result["reason"], note)))}
