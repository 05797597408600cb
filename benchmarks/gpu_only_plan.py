"""The trainings of the comparison with one process, in their order."""

import argparse
import itertools
from collections.abc import Sequence
from dataclasses import replace

from benchmarks.curve_process import check_curves
from benchmarks.curve_settings import CurveSettings, default_run
from benchmarks.tuned_rates import TunedRate, searched_rates, tuned_rate
from hybrid.device import choose_device
from launch.config import TrainConfig, TrunkConfig

START_S, MEASUREMENT_S = 20.0, 3.0
"""About what a curve takes beside its training: processes, data and warm-up; each measurement."""
LIMIT_MINUTES = 90.0
"""What the default plan keeps to."""

Plan = dict[CurveSettings, TunedRate]


def plan(options: argparse.Namespace) -> Plan:
    """Every training with its row learning rate.

    Settings that a training would refuse are refused here, before the first one.

    All contenders of one size follow each other, to be near in time. They train one after the other all the same, so a
    drift of the machine hits some and not others: the trunk's passes in the report show it.
    """
    base = CurveSettings(
        kind="dense",
        max_items=options.max_items,
        seconds=options.seconds,
        measurements=options.measurements,
        device=choose_device(options.device).type,
        trunk=options.trunk,
        batch_size=options.batch_size,
    )
    is_as_searched = (base.trunk, base.batch_size) == (TrunkConfig().factory, TrainConfig().batch_size)
    files = options.row_lr_from if is_as_searched else ()
    searched = searched_rates(files, device=base.device, max_items=options.max_items)
    found: Plan = {}
    for seed, max_tags, kind in itertools.product(options.seeds, options.tags, options.contenders):
        rate = tuned_rate(kind, max_tags, getattr(options, f"{kind}_row_lr"), searched)
        draws = getattr(options, f"{kind}_draws", None) or rate.draws
        for workers in options.workers if kind == "hybrid" else (0,):
            curve = replace(base, kind=kind, workers=workers, seed=seed, max_tags=max_tags, row_lr=rate.row_lr)
            curve = replace(curve, positives=draws[0], negatives=draws[1])
            found[curve.with_chunks_of_a_run() if kind == "hybrid" else curve] = rate
    check_curves(found)
    return found


def default_workers(device: str, batch_size: int) -> list[int]:
    """1 and a run's default number of workers there: what lies between would not fit into `LIMIT_MINUTES`."""
    return sorted({1, default_run(device, batch_size).workers})


def minutes(curves: Sequence[CurveSettings]) -> float:
    """About how long they take."""
    return sum((curve.seconds or 0) + START_S + MEASUREMENT_S * curve.measurements for curve in curves) / 60


def plan_text(planned: Plan, num_finished: int, missing: Sequence[CurveSettings]) -> str:
    """What will be run with which rates, what is finished already, how long the rest takes."""
    lines = []
    for curve, rate in planned.items():
        size = f"{curve.max_tags:,} tags" if curve.max_tags else "all tags"
        state = "" if curve in missing else "; finished"
        lines.append(
            f"  {size}, seed {curve.seed}, {curve.name}: row learning rate {curve.row_lr:g} ({rate.origin}){state}"
        )
    needed = minutes(missing)
    note = f", more than the {LIMIT_MINUTES:.0f} of the default plan" if needed > LIMIT_MINUTES else ""
    lines.append(f"{len(missing)} curves to train, {num_finished} finished: about {needed:.0f} minutes{note}.")
    return "\n".join(lines)
