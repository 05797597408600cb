"""The parts of documents that say what a trunk beside workers gains and loses."""

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.record import machine_of

Records = Mapping[str, Mapping[str, Any]]


def pipeline_scaling_part(records: Records) -> str:
    """What a second worker gains."""
    results = {result["name"]: result for result in records["pipeline_scaling"]["results"]}
    ratio, one, two = (results[f"pipeline_scaling{n}"] for n in ("", "_1_worker", "_2_workers"))
    if None in (ratio["value"], one["value"], two["value"]):
        return f"A second worker beside that trunk was not measured: {ratio['reason']}."
    return (
        f"Beside it, where one worker needs {one['samples']['worker_ms']:.0f} ms for each of two micro-batches, "
        f"a second one raises steps a second {ratio['value']:.2f}x, from {one['value']:.0f} ms a step to "
        f"{two['value']:.0f}, {machine_of(records['pipeline_scaling'])} "
        "([its table](../benchmarks/results/pipeline_scaling.md))."
    )


def cut_batches_part(records: Records) -> str:
    """What cutting a batch costs a trunk on the CPU."""
    ratio, whole, halves = records["cut_batches"]["results"]
    if None in (ratio["value"], whole["value"], halves["value"]):
        return f"What cutting a batch costs a trunk on the CPU was not measured: {ratio['reason']}."
    return (
        "Where a trunk on the CPU shares all cores with workers, a step whose batch is cut in two takes "
        f"{ratio['value']:.2f}x a whole batch's, {halves['value']:.0f} ms against {whole['value']:.0f}, "
        f"{machine_of(records['cut_batches'])} ([its table](../benchmarks/results/cut_batches.md))."
    )


PIPELINE_PARTS: dict[str, Callable[[Records], str]] = {
    "pipeline_scaling": pipeline_scaling_part,
    "cut_batches": cut_batches_part,
}
"""As `generated_parts.PARTS`."""
