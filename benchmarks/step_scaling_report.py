"""Table of the time of a step by contender and number of tags."""

from collections.abc import Mapping
from typing import Any

from benchmarks.markdown import markdown_table
from benchmarks.page import page_text
from benchmarks.spread import spread_of

Record = Mapping[str, Any]
TRUNK_ALONE = "trunk alone"
"""A contender without an output layer."""
_MIB = 1 << 20


def report_text(record: Record) -> str:
    """The whole page."""
    settings = record["settings"]
    text = (
        f"{settings['trunk']} on random pictures of {settings['image_size']} pixels, batches of "
        f"{settings['batch_size']}, {settings['tags_per_example']} true tags of each example, rows of dim "
        f"{settings['dim']} in float32 with row-wise Adagrad (torch sampled: Adagrad of every element). A step is "
        "forward, the output layer, backward, and the trunk's optimizer; median of "
        f"{settings['steps']} after a warm-up, in brackets the quartiles. Trunk alone: a gradient of ones in the place "
        "of the output layer's. The hybrid's rows are in host memory, all others' on the trunk's device."
    )
    return page_text(record, steps_table(record), text)


def steps_table(record: Record) -> str:
    """Contenders by number of tags, in the order in which they were measured."""
    has_gpu = any(result.get("gpu_memory_bytes") for result in record["results"])
    rows, last = [], None
    for result in record["results"]:
        size = "" if result["num_tags"] == last else f"{result['num_tags']:,}"
        last = result["num_tags"]
        if not result["fits"]:
            rows.append([size, result["contender"], "does not fit", "", *([""] if has_gpu else [])])
            continue
        spread = spread_of(result["samples"]["step_ms"])
        time = f"{spread.median:.1f} ({spread.low_quartile:.1f} to {spread.high_quartile:.1f})"
        rate = f"{1000 * record['settings']['batch_size'] / spread.median:,.0f}"
        memory = [f"{result['gpu_memory_bytes'] / _MIB:,.0f}"] if has_gpu else []
        rows.append([size, result["contender"], time, rate, *memory])
    header = ["tags", "output layer", "step, ms", "examples/s", *(["GPU memory, MiB"] if has_gpu else [])]
    return markdown_table(header, rows)
