"""Hybrid against one process with the whole matrix: `python -m benchmarks.gpu_only --help`."""

import argparse
from pathlib import Path

from benchmarks.command_line import add_results, count, positive_float, positive_int, run_program
from benchmarks.curve_process import run_in_process
from benchmarks.curve_settings import ALL_KINDS, DRAWS, KINDS
from benchmarks.environment import restart_if_blas_is_forced
from benchmarks.finished_curves import FinishedCurves
from benchmarks.gpu_only_plan import default_workers, plan, plan_text
from benchmarks.gpu_only_report import write_report
from benchmarks.page import print_pages
from benchmarks.record import RESULTS, Record
from benchmarks.time_limits import ProgramClock
from benchmarks.tuned_rates import search_files
from hybrid.device import choose_device, describe
from launch.config import DEVICES, TrainConfig, TrunkConfig

NAME = "gpu_only"


def main() -> None:
    """Say what will be trained, train every contender on every size, write JSON after each, then table and plot."""
    restart_if_blas_is_forced()
    options = _options()
    planned = plan(options)
    record = Record(options.name, _title(options.device), _settings(options))
    path = options.results / f"{options.name}.json"
    finished: FinishedCurves | tuple[()] = ()
    if options.is_continued:
        finished = FinishedCurves(record, path, lambda curve: curve in planned)
    missing = [curve for curve in planned if not finished or finished.get(curve) is None]
    print(plan_text(planned, len(finished), missing), flush=True)
    clock = ProgramClock(NAME)
    for curve in missing:
        record.add(run_in_process(curve) | {"row_lr_origin": planned[curve].origin})
        record.content["suite"] = clock.lap()
        record.write(options.results)
    print_pages(path, *write_report(path))
    print(clock.text())


def _title(device_asked: str) -> str:
    device = describe(choose_device(device_asked))
    where = f"on {device}" if device != "cpu" else "on the CPU, so that processes compete for the same cores"
    return f"Hybrid against the whole matrix in one process, trunk and rivals' matrix {where}"


def _settings(options: argparse.Namespace) -> dict[str, object]:
    plain = {name: value.name if isinstance(value, Path) else value for name, value in vars(options).items()}
    plain["row_lr_from"] = [path.name for path in options.row_lr_from]
    return plain | {"device_found": describe(choose_device(options.device))}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_only", description=__doc__)
    sizes, by_device = [10_000, 100_000, 0], "numbers of workers; default: 1 and that of a run on the device"
    parser.add_argument("--seconds", type=positive_float, default=240.0, help="training time per curve")
    parser.add_argument("--tags", type=count, nargs="+", default=sizes, help="sizes of vocabulary; 0: all")
    parser.add_argument("--workers", type=positive_int, nargs="+", help=by_device)
    parser.add_argument("--contenders", nargs="+", default=list(KINDS), choices=ALL_KINDS)
    parser.add_argument("--seeds", type=count, nargs="+", default=[0])
    parser.add_argument("--max-items", type=count, default=0, help="use only so many pictures; 0: all")
    parser.add_argument("--measurements", type=positive_int, default=6, help="points of a curve; they cost no training")
    parser.add_argument("--device", default="auto", choices=DEVICES)
    parser.add_argument("--trunk", default=TrunkConfig().factory, help="as in `hybrid train`")
    parser.add_argument("--batch-size", type=positive_int, default=TrainConfig().batch_size)
    for kind in ALL_KINDS:
        parser.add_argument(f"--{kind}-row-lr", type=positive_float, help="default: what --row-lr-from found best")
    for kind in DRAWS:
        help_text = "positives of an example and negatives of a chunk; default: what --row-lr-from found best"
        parser.add_argument(f"--{kind}-draws", type=positive_int, nargs=2, metavar=("P", "K"), help=help_text)
    parser.add_argument(
        "--row-lr-from",
        type=Path,
        nargs="+",
        default=search_files(RESULTS),
        help="JSON of bench-row-lr; of what several have searched for, the last one's choice",
    )
    parser.add_argument(
        "--continue", dest="is_continued", action="store_true", help="keep the curves that an earlier start finished"
    )
    parser.add_argument("--name", default=NAME, help="of the files in the results folder")
    add_results(parser, "JSON, table and plot")
    options = parser.parse_args()
    options.workers = options.workers or default_workers(choose_device(options.device).type, options.batch_size)
    return options


if __name__ == "__main__":
    run_program(main)
