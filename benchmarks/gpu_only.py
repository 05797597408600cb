"""Hybrid against one process with the whole matrix: `python -m benchmarks.gpu_only --help`."""

import argparse
import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.curve_process import run_in_process
from benchmarks.curve_settings import KINDS, ROW_LR, CurveSettings
from benchmarks.environment import restart_if_blas_is_forced
from benchmarks.gpu_only_report import write_report
from benchmarks.record import RESULTS, Record
from hybrid.device import choose_device, describe
from launch.config import DEVICES, default_num_workers

NAME = "gpu_only"


def main() -> None:
    """Train every contender on every size, write JSON after each, then table and plot."""
    restart_if_blas_is_forced()
    options = _options()
    device = describe(choose_device(options.device))
    where = f"on {device}" if device != "cpu" else "on the CPU"
    title = f"Hybrid against the whole matrix in one process, trunk and rivals' matrix {where}"
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
    record = Record(options.name, title, settings | {"device_found": device})
    for curve in plan(options):
        record.add(run_in_process(curve))
        path = record.write(options.results)
    print(path, *write_report(path), sep="\n")


def plan(options: argparse.Namespace) -> Iterator[CurveSettings]:
    """The trainings. All contenders of one size follow each other, so that a drift of the machine hits them alike."""
    base = CurveSettings(
        kind="dense",
        max_items=options.max_items,
        seconds=options.seconds,
        measurements=options.measurements,
        device=choose_device(options.device).type,
    )
    row_lr = {kind: getattr(options, f"{kind}_row_lr") for kind in KINDS}
    for seed, max_tags, kind in itertools.product(options.seeds, options.tags, options.contenders):
        for workers in options.workers if kind == "hybrid" else (0,):
            yield replace(base, kind=kind, workers=workers, seed=seed, max_tags=max_tags, row_lr=row_lr[kind])


def default_workers() -> list[int]:
    """1, 2, 4 ... up to the default number of workers of this machine."""
    most = default_num_workers()
    return [2**i for i in range(most.bit_length())]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_only", description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=50.0, help="training time per curve (50: 15 minutes on 2 cores)"
    )
    parser.add_argument("--tags", type=int, nargs="+", default=[10_000, 100_000, 0], help="sizes of vocabulary; 0: all")
    parser.add_argument("--workers", type=int, nargs="+", default=default_workers(), help="numbers of workers")
    parser.add_argument("--contenders", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--max-items", type=int, default=0, help="use only so many pictures; 0: all")
    parser.add_argument("--measurements", type=int, default=5, help="points of a curve; they cost no training time")
    parser.add_argument("--device", default="auto", choices=DEVICES)
    for kind in KINDS:
        parser.add_argument(f"--{kind}-row-lr", type=float, default=ROW_LR[kind], help=f"default {ROW_LR[kind]}")
    parser.add_argument("--name", default=NAME, help="of the files in the results folder")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for JSON, table and plot")
    return parser.parse_args()


if __name__ == "__main__":
    main()
