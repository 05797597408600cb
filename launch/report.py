"""What a finished run prints: metrics beside popularity's, where everything is, what to try next."""

import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from launch.config import TrainConfig
from launch.figures import score
from launch.runs import latest_checkpoint
from launch.snapshot import Snapshot

_POPULARITY = "popularity"
_FALLBACK_TAGS = {"emoji": "fruit"}


def print_report(console: Console, snapshot: Snapshot, directory: Path, source: str) -> None:
    """Print the whole report.

    Args:
        directory: the run directory.
        source: `data.source`; for some, a tag is known that is worth a search.
    """
    for name, table in named_tables(snapshot.metrics).items():
        console.print()
        console.print(metrics_table(name, table))
    console.print()
    written = {"run directory": str(directory), **_files(snapshot.outputs)}
    listing = Table.grid(padding=(0, 2, 0, 0))
    for name, place in written.items():
        listing.add_row(Text(name, style="dim"), Text(shown_path(Path(place))))
    console.print(listing)
    console.print()
    console.print("Try next:")
    for command in next_commands(snapshot.outputs, directory, source):
        console.print(Text("  " + command, style="bold"), soft_wrap=True)


def named_tables(metrics: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Tables of measures by the name of what was measured; measures that stand alone are the test's."""
    alone = {name: value for name, value in metrics.items() if name == _POPULARITY or not _is_table(value)}
    named = {name: value for name, value in metrics.items() if name not in alone}
    return {**({"test": alone} if alone else {}), **named}


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping) and _POPULARITY in value


def metrics_table(name: str, measures: Mapping[str, Any]) -> Table:
    """Measures in rows; the model's and popularity's in columns."""
    popular = measures.get(_POPULARITY, {})
    items = f", {measures['items']:,} images" if isinstance(measures.get("items"), int) else ""
    by = ", ranked by lift" if measures.get("score") == "lift" else ""
    table = Table(title=f"{name}{items}{by}", title_justify="left", title_style="bold")
    table.add_column("measure")
    table.add_column("this run", justify="right", style="bold")
    table.add_column(_POPULARITY, justify="right", style="dim")
    for measure, value in measures.items():
        if measure in popular:
            table.add_row(_label(measure, measures), score(value), score(popular[measure]))
    return table


def next_commands(outputs: Mapping[str, Any], directory: Path, source: str) -> list[str]:
    """Commands that work when pasted into this shell, two of them if there is anything held out to look at."""
    run = shlex.quote(shown_path(directory))
    tag = outputs.get("example_tag") or _FALLBACK_TAGS.get(source)
    if not tag:
        evaluate = [evaluate_command(directory)] if outputs.get("gallery") else []  # else nothing is held out
        return [*evaluate, status_command(directory)]
    image = outputs.get("example_image")
    second = (
        f"annotate {run} {shlex.quote(shown_path(Path(image)))}" if image else f"neighbours {run} {shlex.quote(tag)}"
    )
    return [f"{this_command()} search {run} {shlex.quote(tag)}", f"{this_command()} {second}"]


def resume_command(directory: Path) -> str:
    """The command that goes on with a run, as it can be pasted."""
    return f"{this_command()} train --resume {shlex.quote(shown_path(directory))}"


def evaluate_command(directory: Path) -> str:
    """The command that measures a run, as it can be pasted."""
    return f"{this_command()} evaluate {shlex.quote(shown_path(directory))}"


def status_command(directory: Path) -> str:
    """The command that tells how a run ended, as it can be pasted."""
    return f"{this_command()} status {shlex.quote(shown_path(directory))}"


def way_on(directory: Path, *, is_broken: bool = False) -> str:
    """What the command that goes on with a run will do, and the command.

    Args:
        directory: of the run.
        is_broken: it ended before its first step, and would again.
    """
    checkpoint = latest_checkpoint(directory)
    if checkpoint is None:
        intent = "Nothing was saved yet. To start again, with other options if need be"
    else:
        intent = f"{'Once that is fixed, to' if is_broken else 'To'} go on from {checkpoint.name}"
    return f"{intent}:\n\n  {resume_command(directory)}"


def spent_remark(directory: Path, given: TrainConfig, own: TrainConfig) -> str:
    """What to tell whose resume found the budget spent, with a command that goes on.

    Args:
        directory: of the run.
        given: the settings of the resume.
        own: those with which the run learned.
    """
    kind, own_kind = ("minutes" if one.epochs is None else "epochs" for one in (given, own))
    budget, own_budget = getattr(given, kind), getattr(own, own_kind)  # how much of another kind was used is not known
    larger = 2 * (max(budget, own_budget) if kind == own_kind else own_budget)
    return (
        f"The budget of {budget:g} {kind.removesuffix('s') if budget == 1 else kind} was spent before this resume, so "
        "nothing more was learned. To train the run further, give it a larger one, for all of its training:\n\n"
        f"  {resume_command(directory)} --{own_kind} {larger:g}"
    )


def this_command() -> str:
    """How this program is called from this shell: `hybrid` if the shell finds it, else its path."""
    started = Path(sys.argv[0])
    if started.name != "hybrid":
        return f"{shlex.quote(sys.executable)} -m launch" if started.name == "__main__.py" else "hybrid"
    found = shutil.which("hybrid")
    if found and Path(found).resolve() == started.resolve():
        return "hybrid"
    return shlex.quote(shown_path(started.absolute()))


def shown_path(path: Path) -> str:
    """A path as short as it can be pasted: relative under the working directory, else as it is."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):  # the working directory may have gone
        return str(path)


def _label(measure: str, measures: Mapping[str, Any]) -> str:
    bounds = measures.get(f"{measure} bounds")
    return (
        f"{measure} (tags with {bounds[0]} to {bounds[1]} images)" if isinstance(bounds, list) and bounds else measure
    )


def _files(outputs: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(place) for name, place in outputs.items() if not name.startswith("example_") and place}
