"""What the model of `hybrid.shadow` says of measured shares of time waited."""

from collections.abc import Mapping
from typing import Any

from hybrid.shadow import TrunkWork, shadow_s, waiting_s
from launch.config import TrainConfig

MICROBATCHES = TrainConfig().microbatches


def trunk_work(result: Mapping[str, Any]) -> TrunkWork:
    """The trunk's measured work on a micro-batch."""
    trunk_ms = result["samples"]["trunk_ms"]
    return TrunkWork(**{f"{name}_s": ms / 1000 for name, ms in trunk_ms.items()})


def modelled_share(worker_s: float, work: TrunkWork) -> float:
    """The share of the time that the trunk should wait."""
    waited_s = waiting_s(worker_s, work, MICROBATCHES)
    return waited_s / (MICROBATCHES * (work.forward_s + work.ship_s + work.backward_s) + waited_s)


def knee_ms(work: TrunkWork) -> float:
    """The worker time per micro-batch beyond which the trunk waits."""
    return 1000 * shadow_s(work, MICROBATCHES)


def model_text(record: Mapping[str, Any]) -> str:
    """Where the model has its knee, and how far from it the measured share is that is farthest; "" without points."""
    found = [result for result in record["results"] if result["spread"] and "trunk_ms" in (result["samples"] or {})]
    if not found:
        return ""
    offs = {_off(result): result["samples"]["worker_ms"] for result in found}
    most = max(offs, key=abs)
    way = "more" if most > 0 else "less"
    return (
        f"By the model the trunk waits where workers need more than {knee_ms(trunk_work(found[0])):.1f} ms. Of "
        f"{len(found)} measured shares of time waited the one farthest from it is at {offs[most]:.1f} ms: "
        f"{100 * abs(most):.1f} points {way} than the model's."
    )


def _off(result: Mapping[str, Any]) -> float:
    share = modelled_share(result["samples"]["worker_ms"] / 1000, trunk_work(result))
    return float(result["spread"]["median"] - share)
