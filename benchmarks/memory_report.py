"""Table of the sizes that fit, tried on this machine and predicted for cards."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.curve_settings import RIVAL_NAMES
from benchmarks.markdown import markdown_table
from benchmarks.memory_model import DIMS, StepShape
from benchmarks.page import page_text

TOLERANCE = 0.1
"""A prediction that is further from the finding than this is wrong."""
_NAMES = {"hybrid": "hybrid (host memory)", **RIVAL_NAMES}


def report_text(record: Mapping[str, Any]) -> str:
    """What was tried, then what cards would hold."""
    first = record["results"][0]
    limit, shape = first["limit_bytes"] / 2**30, first["shape"]
    rows = [_row(result) for result in record["results"]]
    tried = markdown_table(["", "predicted tags", "found: fits", "found: full", "prediction against finding"], rows)
    return page_text(
        record,
        f"## Tried: {limit:g} GiB of address space beside a tiny layer's",
        tried,
        f"D = {shape['dim']}, {shape['batch_size']} examples a step, float32 on the CPU, synthetic tags, one step "
        "each, found by bisection: the truth lies between the two. A prediction more than "
        f"{TOLERANCE:.0%} off their middle is wrong. The hybrid's matrix is host memory that workers share, so here it "
        "is limited like the others; beside a GPU it is not on the card.",
        "## Predicted: the most tags on a card, millions",
        _cards(record["results"]),
        f"{StepShape.on_card(DIMS[0]).batch_size} examples a step, products in bfloat16, the layer and its optimizer "
        "alone: trunk, activations and data come on top. Of the hybrid a card holds the features of a batch, and "
        "nothing that grows with the tags: the last row says what so much *host* memory holds.",
    )


def _row(result: Mapping[str, Any]) -> list[str]:
    is_wrong = " **wrong**" if abs(result["error"]) > TOLERANCE else ""
    predicted, fits, full = (result[name] for name in ("predicted_num_tags", "fits_num_tags", "full_num_tags"))
    off = " to ".join(f"{100 * (predicted / truth - 1):+.1f}%" for truth in (full, fits))
    return [_NAMES[result["contender"]], *(f"{number:,}" for number in (predicted, fits, full)), off + is_wrong]


def _cards(results: Sequence[Mapping[str, Any]]) -> str:
    """A row for each contender, the hybrid's last."""
    ordered = sorted(results, key=lambda result: result["contender"] == "hybrid")
    rows = [[_NAMES[r["contender"]], *(f"{n / 1e6:,.1f}" for n in r["on_cards"].values())] for r in ordered]
    return markdown_table(["", *results[0]["on_cards"]], rows)
