"""Tables of the head's time and memory, from their JSON."""

import statistics
from collections.abc import Mapping
from typing import Any

from benchmarks.markdown import markdown_table
from benchmarks.page import page_text

_MIB = 1 << 20
_SERIES = {"step": "round_step_ms", "kernels": "round_kernel_ms"}


def growth(record: Mapping[str, Any], series: str) -> list[list[float]]:
    """By size: in each round, the time over that of the smallest size."""
    results = sorted(record["results"], key=lambda result: result["num_tags"])
    base = results[0][series]
    return [[ms / base_ms for ms, base_ms in zip(result[series], base, strict=True)] for result in results]


def scaling_text(record: Mapping[str, Any]) -> str:
    """Median time and growth by size."""
    results = sorted(record["results"], key=lambda result: result["num_tags"])
    grown = {name: growth(record, series) for name, series in _SERIES.items()}
    rows = []
    for i, result in enumerate(results):
        cells = [f"{result['num_tags']:,}"]
        for name, series in _SERIES.items():
            low, high = min(grown[name][i]), max(grown[name][i])
            cells += [
                f"{statistics.median(result[series]):.2f}",
                f"{statistics.median(grown[name][i]):.2f} ({low:.2f} to {high:.2f})",
            ]
        rows.append(cells)
    table = markdown_table(["tags", "step, ms", "growth", "kernels of all workers, ms", "growth"], rows)
    settings, first = record["settings"], results[0]
    text = (
        f"Step: from shipping {settings['batch_size']} examples of dim {settings['dim']} to having their gradient, "
        f"{settings['workers']} workers, {first['head_config']['negatives']} shared negatives per chunk of "
        f"{first['head_config']['chunk_size']}. Median of {len(first['round_step_ms'])} interleaved rounds, each the "
        f"median of {settings['steps']} steps; growth: median of the rounds' ratios (smallest to largest). "
        f"Largest size: {results[-1]['huge_pages']}"
    )
    return page_text(record, table, text)


def memory_text(record: Mapping[str, Any]) -> str:
    """Bytes against their limit."""
    rows = []
    for result in record["results"]:
        pss = result["memory_bytes"]
        rows += [
            ["rows", f"{result['rows_bytes'] / _MIB:,.0f}"],
            ["state", f"{result['state_bytes'] / _MIB:,.0f}"],
            ["sum of Pss, all processes", f"{pss['Pss'] / _MIB:,.0f}"],
            *([f"of this {name.removeprefix('Pss_')}", f"{pss[name] / _MIB:,.0f}"] for name in pss if name != "Pss"),
            ["limit", f"{result['limit_bytes'] / _MIB:,.0f} ({'kept' if result['is_within_limit'] else 'EXCEEDED'})"],
        ]
    first = record["results"][0]
    text = (
        f"{first['num_tags']:,} tags x {first['dim']}, {first['workers']} workers, one trunk in training. Limit: "
        "1.25 x (rows + state) + 1.5 GiB. State: bias, two accumulators, log q."
    )
    return page_text(record, markdown_table(["MiB", ""], rows), text)
