"""Table and plot of the hybrid and its rivals, from the JSON: `python -m benchmarks.gpu_only_report [JSON]`."""

import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.figure import Figure

from benchmarks.command_line import run_program
from benchmarks.curve_settings import ALL_KINDS
from benchmarks.markdown import markdown_table
from benchmarks.page import page_text, write_page
from benchmarks.plot_file import write_plot_file
from benchmarks.record import RESULTS, read_record
from benchmarks.rival_verdicts import (
    JUDGED,
    LEVEL,
    SUITE,
    Elsewhere,
    elsewhere_of,
    hybrid_mean,
    is_hybrid,
    mean_name,
    standing,
    verdicts,
)

Result = Mapping[str, Any]
LEVEL_SHARE = 0.9
"""Time to quality is time to this share of the best final P@5 of that size."""
TRUNK = "trunk's passes, ms"
"""Forward and backward of the trunk, the same work for all: where it differs, so did the machine, or its other load."""
MEASURES = (
    "examples/s",
    "step, median ms",
    "step, p90 ms",
    TRUNK,
    "memory, MiB",
    "P@5",
    "mAP",
    "time to quality, s",
)
NOT_JUDGED = (TRUNK,)
HIGHER_IS_BETTER = ("examples/s", "P@5", "mAP")
IN_TRUNKS_THREAD = "in the trunk's thread"
SAMPLED = (
    "largest sum of Pss over all processes of the training, file pages of the data included, in samples 20 ms apart: "
    "arrays of a step that live shorter may be missed, or not."
)
NOT_COMPARED = "one side is not in this run"
AGAINST = "hybrids' mean against it, P@5 / mAP"
_MIB = 1 << 20
_LINES = ("-", "--", "-.", ":")
"""Of hybrids, by their number of workers."""


def main() -> None:
    """Write both beside the JSON."""
    print(*write_report(Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS / "gpu_only.json"), sep="\n")


def write_report(path: Path) -> tuple[Path, Path]:
    """Write the table and the plot beside the JSON; returns their paths."""
    records = {path.stem: read_record(path)}
    records |= {other.stem: read_record(other) for other in path.parent.glob(f"{SUITE}*.json") if other != path}
    record, plot = records[path.stem], path.with_suffix(".svg")
    write_plot_file(plot_of(record), plot, record)
    return write_page(path, lambda record: report_text(record, elsewhere_of(path.stem, records))), plot


def report_text(record: Result, elsewhere: Elsewhere | None = None) -> str:
    """The whole page: who is ahead, tables by size, where the hybrid loses, where it was measured."""
    parts = [_verdict_section(record, elsewhere)]
    for num_tags, results in by_size(record).items():
        popularity = results[0]["final"]["popularity"]["P@5"]
        header = ["", "row lr", *MEASURES, AGAINST, *(["GPU memory, MiB"] if results[0]["gpu_memory_bytes"] else [])]
        table = markdown_table(header, [_row(result, results) for result in results])
        parts.append(f"## {num_tags:,} tags (popularity: P@5 {popularity:.3f})\n\n{table}")
    lost = losses(record)
    both = any(map(is_hybrid, record["results"])) and not all(map(is_hybrid, record["results"]))
    listed = "\n".join(f"- {line}" for line in lost) or f"- {'nowhere in these runs' if both else NOT_COMPARED}"
    parts.append(f"## Where the hybrid loses in this run\n\n{listed}")
    first = record["results"][0]
    parts.append(
        "Same trunk, data, seed, batch, augmentation, schedule and training time; batches are prepared "
        f"{first.get('batches', IN_TRUNKS_THREAD)} for all. {_rates(record)} "
        "P@5 and mAP on the validation pictures, measured with the clock stopped. Memory: "
        f"{first.get('memory', SAMPLED)} {_tuning(first)}`hybrid train` has one small process more, "
        "the launcher. Time to quality: seconds to the first measurement with "
        f"{LEVEL_SHARE:.0%} of the best final P@5 of that size. "
        f"Trunk: {first['device']}, {first['precision']}; its CPU threads are measured while it trains."
    )
    return page_text(record, *parts)


def _verdict_section(record: Result, elsewhere: Elsewhere | None) -> str:
    """The hybrid against the best rival, at equal seconds; a loss is called one."""
    rows = []
    for num_tags, results in by_size(record).items():
        for verdict in verdicts(num_tags, results, elsewhere):
            (our_name, ours), (their_name, theirs) = verdict.ours, verdict.theirs
            cells = [f"{ours:.3f} ({our_name})", f"{theirs:.3f} ({their_name})", f"{100 * (ours - theirs):+.1f}"]
            rows.append([f"{num_tags:,} tags, {verdict.measure}", *cells, f"**{verdict.word}**"])
    if not rows:
        return f"## The hybrid against the best rival\n\nNot measured: {NOT_COMPARED}."
    seconds = max(result["points"][-1]["seconds"] for result in record["results"])
    table = markdown_table(["", "hybrid", "best rival", "points", "the hybrid is"], rows)
    apart = ", ".join(f"{level:g} of {measure}" for measure, level in LEVEL.items())
    rule = (
        f"After {seconds:.0f} s of training each. Level: at most {apart} apart, about two standard deviations of the "
        "difference between two runs that differ in seed and number of workers alone, as `make bench-workers` found it "
        "with all tags; contenders train one after the other, so a drift of the machine (see the trunk's passes below) "
        "comes on top. The hybrid shows the mean of its rows below, the rivals the best of theirs, here or in another "
        "run of the same budget, data and tuning of memory on this machine; defaults of all, and what the hybrid "
        "draws on a CPU, were chosen on the same validation pictures."
    )
    return f"## The hybrid against the best rival\n\n{table}\n\n{rule}"


def _against(result: Result, of_same_size: list[Result]) -> str:
    """How the hybrids' mean at that size stands to this rival."""
    if is_hybrid(result):
        return ""
    words = []
    for measure in JUDGED:
        ours = hybrid_mean(of_same_size, measure)
        words.append(standing(measure, ours[1], result["points"][-1][measure]) if ours else "not measured")
    return " / ".join(words)


def _rates(record: Result) -> str:
    """What the sign behind some learning rates means."""
    unsearched = {r["row_lr_origin"] for r in record["results"]} - {"searched"} if _has_origins(record) else set()
    signs = f" (*: {', '.join(sorted(unsearched))})" if unsearched else ""
    return f"Learning rates of the rows are each contender's own, found by the same search where one was made{signs}."


def _tuning(result: Result) -> str:
    """What a careful user sets for memory, where the contenders had it."""
    tuned = {name: value for name, value in result.get("memory_tuning", {}).items() if value is not None}
    return (
        f"Every contender ran with {', '.join(f'{name}={value}' for name, value in tuned.items())}. " if tuned else ""
    )


def _has_origins(record: Result) -> bool:
    return all("row_lr_origin" in result for result in record["results"])


def by_size(record: Result) -> dict[int, list[Result]]:
    """Results by number of tags, smallest first."""
    sizes = sorted({result["num_tags"] for result in record["results"]})
    return {size: [result for result in record["results"] if result["num_tags"] == size] for size in sizes}


def measured(result: Result, of_same_size: list[Result]) -> dict[str, float | None]:
    """The numbers of `MEASURES`; None where the level was not reached."""
    level = LEVEL_SHARE * max(other["points"][-1]["P@5"] for other in of_same_size)
    reached = [point["seconds"] for point in result["points"] if point["P@5"] >= level]
    values = (
        result["examples_per_s"],
        result["step_ms"]["median"],
        result["step_ms"]["p90"],
        result["phase_ms"]["forward"] + result["phase_ms"]["backward"],
        result["memory_bytes"]["Pss"] / _MIB,
        result["points"][-1]["P@5"],
        result["points"][-1]["mAP"],
        min(reached) if reached else None,
    )
    return dict(zip(MEASURES, values, strict=True))


def losses(record: Result) -> list[str]:
    """One line for each size and measure in which a rival of this record beats the mean of the hybrids of that size.

    A rival that was trained with several seeds counts with their mean, as the hybrids do.
    """
    lines = []
    for num_tags, results in by_size(record).items():
        hybrids = [result for result in results if is_hybrid(result)]
        rivals = [result for result in results if not is_hybrid(result)]
        for name in [m for m in MEASURES if m not in NOT_JUDGED] if hybrids and rivals else ():
            ours = _mean([measured(result, results)[name] for result in hybrids])
            finals: dict[str, list[float | None]] = {}
            for result in rivals:
                finals.setdefault(result["contender"], []).append(measured(result, results)[name])
            means = {contender: _mean(values) for contender, values in finals.items()}
            their_name, theirs = max(means.items(), key=lambda item: _goodness(name, item[1]))
            if _goodness(name, theirs) > _goodness(name, ours):
                against = f"{_shown(name, ours)} ({mean_name(hybrids)})"
                lines.append(f"{num_tags:,} tags, {name}: {_shown(name, theirs)} ({their_name}) against {against}")
    return lines


def _mean(values: list[float | None]) -> float | None:
    """None if one of them is."""
    found = [value for value in values if value is not None]
    return statistics.mean(found) if len(found) == len(values) else None


def _goodness(name: str, value: float | None) -> float:
    if value is None:
        return -float("inf")
    return value if name in HIGHER_IS_BETTER else -value


def _row(result: Result, of_same_size: list[Result]) -> list[str]:
    seeds = {other["settings"]["seed"] for other in of_same_size}
    name = result["contender"] + (f", seed {result['settings']['seed']}" if len(seeds) > 1 else "")
    cells = [_shown(measure, value) for measure, value in measured(result, of_same_size).items()]
    gpu = result["gpu_memory_bytes"]
    sign = "" if result.get("row_lr_origin", "searched") == "searched" else "*"
    row_lr = f"{result['settings']['row_lr']:g}{sign}"
    return [name, row_lr, *cells, _against(result, of_same_size), *([f"{gpu / _MIB:,.0f}"] if gpu else [])]


def _shown(name: str, value: float | None) -> str:
    if value is None:
        return "not reached"
    return f"{value:.3f}" if name in ("P@5", "mAP") else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def contenders_table(record: Result) -> str:
    """Every contender at every size, in few columns."""
    rows, has_card = [], any(result["gpu_memory_bytes"] for result in record["results"])
    for num_tags, results in by_size(record).items():
        for i, result in enumerate(results):
            found = measured(result, results)
            paces = [f"{found[name]:,.0f}" for name in ("examples/s", "memory, MiB")]
            paces += [f"{result['gpu_memory_bytes'] / _MIB:,.0f}"] if has_card else []
            measures = [f"{found[name]:.3f}" for name in ("P@5", "mAP")]
            rows.append([f"{num_tags:,}" if i == 0 else "", result["contender"], *paces, *measures])
    card = ["on the card, MiB"] if has_card else []
    return markdown_table(["tags", "contender", "examples/s", "memory, MiB", *card, "P@5", "mAP"], rows)


def plot_of(record: Result) -> Figure:
    """Each judged measure over the seconds of training, a column per size.

    A contender has the colour of its kind in every panel, whatever the order in which it was trained; each column has
    a legend of its own, since what a rival draws, and so its name, differs by size.
    """
    sizes = by_size(record)
    workers = sorted({result["settings"]["workers"] for result in record["results"] if is_hybrid(result)})
    figure, axes = pyplot.subplots(2, len(sizes), figsize=(4.5 * len(sizes), 7.5), squeeze=False, sharex=True)
    for column, (num_tags, results) in enumerate(sizes.items()):
        for axis, name in zip(axes[:, column], JUDGED, strict=True):
            named: set[str] = set()
            for result in results:
                points = [(point["seconds"], point[name]) for point in result["points"]]
                label = None if result["contender"] in named else result["contender"]  # seeds share a name
                named.add(result["contender"])
                style = _style(result, workers)
                axis.plot(*zip(*points, strict=True), marker="o", markersize=3, label=label, **style)
            axis.axhline(results[0]["final"]["popularity"][name], color="grey", linestyle=":", label="popularity")
            axis.set(title=f"{num_tags:,} tags", xlabel="seconds of training", ylabel=f"validation {name}")
        beneath = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2), "ncols": 2, "handlelength": 3}
        axes[-1][column].legend(fontsize="x-small", frameon=False, **beneath)
    figure.suptitle(record["title"], wrap=True, fontsize="medium")
    figure.tight_layout()
    return figure


def _style(result: Result, workers: list[int]) -> dict[str, str]:
    kind, line = result["settings"]["kind"], 0
    if is_hybrid(result):
        line = workers.index(result["settings"]["workers"]) % len(_LINES)
    return {"color": f"C{ALL_KINDS.index(kind)}", "linestyle": _LINES[line]}


if __name__ == "__main__":
    run_program(main)
