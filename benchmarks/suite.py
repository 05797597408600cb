"""Runs suites, writes their JSON and tables, prints the verdicts: `python -m benchmarks.suite --help`.

A suite is a module of `benchmarks/` with a sentence `TITLE` and a function

    measure(options: SuiteOptions, progress: Progress) -> list[Measurement]

listed in `PROGRAMS`. The exit status is 1 if a gate is missed, if our own side failed, or if results could not be
written; what was not measured for any other reason is shown, and fails nothing.
"""

import argparse
import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks import report
from benchmarks.command_line import positive_float, positive_int, run_program
from benchmarks.environment import restart_with_one_thread
from benchmarks.gates import GATES, SHORT, gates_of
from benchmarks.measurement import MIN_ROUNDS, Measurement
from benchmarks.page import write_page
from benchmarks.progress import Progress
from benchmarks.record import RESULTS, Record, check_folder
from benchmarks.result_pages import judged_page
from benchmarks.rival_forms import naming_missed_forms
from benchmarks.suite_options import DEFAULT_ROUND_S, SuiteOptions
from benchmarks.time_limits import ProgramClock
from benchmarks.verdict_table import print_verdicts
from workers.errors import HybridError, RunError

Measure = Callable[[SuiteOptions, Progress], list[Measurement]]

SCRATCH = Path("runs") / "bench"
PROGRAMS = {
    "quick": ("kernels", "draws", "transport", "scaling"),
    "pipeline": ("pipeline_efficiency", "pipeline_scaling", "cut_batches"),
    "full": ("kernels", "draws", "transport", "scaling", "pipeline_efficiency", "pipeline_scaling", "peers"),
}
"""Which suites a program runs, in order. `quick` also tells them to measure only what its gates need."""

_SLOW = ("ordinary ones in", "refused huge ones")  # in what `workers.memory` says of its pages


def main() -> int:
    """Run what was asked for; returns the exit status."""
    restart_with_one_thread()
    asked = _parse()
    options = SuiteOptions(
        is_quick=asked.program == "quick", rounds=asked.rounds, round_s=asked.round_s, max_tags=asked.max_tags
    )
    suites = PROGRAMS.get(asked.program, (asked.program,))
    results = asked.results or results_folder(options)
    status = run(suites, options, results, asked.program)
    if results == RESULTS:
        report.main()
    return status


def results_folder(options: SuiteOptions) -> Path:
    """Where results go by default: beside those that README quotes, unless the run was quick or cut down."""
    return SCRATCH if options.is_quick or options.reduction else RESULTS


def run(suites: Sequence[str], options: SuiteOptions, results: Path, program: str = "") -> int:
    """Run suites one after the other; each leaves `NAME.json` and `NAME.md`, at the end one table is printed.

    Below it stands how long all took, which is also in each record as `suite`, against the limit of the program.

    A folder that takes no more meanwhile costs what it should have taken, and no verdict.

    Returns:
        The exit status: 1 if a gate is missed, our own side failed, or something could not be written.

    Raises:
        RunError: the folder takes no results; then nothing is measured.
    """
    check_folder(results)
    progress, all_measured, unwritten = Progress(), [], []
    clock = ProgramClock(program or ", ".join(suites))
    for name in suites:
        judged = [gate.name for gate in gates_of(name, quick=options.is_quick)]
        progress.stage(f"{name}, for the gates {', '.join(judged)}" if judged else f"{name}, which no gate judges")
        module = importlib.import_module(f"benchmarks.{name}")
        record = Record(name, module.TITLE, asdict(options))
        measured = measured_by(name, module.measure, options, progress)
        for measurement in measured:
            record.add(measurement.as_json())
        all_measured += measured
        record.content["suite"] = clock.lap()
        try:
            write_page(record.write(results), judged_page)
        except RunError as error:
            unwritten.append(f"Results of {name} were not written: {error}")
            progress.stage(unwritten[-1])
    results_json = [measurement.as_json() for measurement in all_measured]
    print_verdicts(naming_missed_forms(result, results_json) for result in results_json)
    for memory in slow_memory(measurement.samples.get("facts", {}) for measurement in all_measured):
        print(f"Memory of a matrix: {memory}. Figures say what misses of the TLB cost, too, up to 1.4 times the time.")
    defects = [measurement for measurement in all_measured if measurement.is_defect]
    for reason in dict.fromkeys(measurement.reason for measurement in defects):
        print(f"Our own side failed: {reason}")
    for reason in unwritten:
        print(reason)
    print(clock.text())
    return int(bool(defects or unwritten) or any(measurement.verdict()[0] == SHORT for measurement in all_measured))


def slow_memory(facts: Iterable[object]) -> list[str]:
    """What facts say of matrices that have ordinary pages where the kernel was asked for huge ones; each once."""
    found: dict[str, None] = {}
    for fact in facts:
        if isinstance(fact, Mapping):
            found |= dict.fromkeys(slow_memory(fact.values()))
        elif isinstance(fact, str) and any(words in fact for words in _SLOW):
            found[fact] = None
    return list(found)


def measured_by(suite: str, measure: Measure, options: SuiteOptions, progress: Progress) -> list[Measurement]:
    """What a suite measured, and a row for each of its gates of which it said nothing, or which its failure prevented.

    An error of ours, or memory that is short, ends the suite and not the run. Rivals that fail are caught within their
    suite.
    """
    is_defect = False
    try:
        measured, reason = measure(options, progress), "the suite does not measure it"
    except (HybridError, MemoryError) as error:
        progress.stage(f"{suite} failed: {error}")
        measured, reason = [], f"the suite {suite} failed: {error}".partition("\n")[0]
        is_defect = isinstance(error, HybridError)
    found = {measurement.name for measurement in measured}
    absent = [gate.name for gate in gates_of(suite, quick=options.is_quick) if gate.name not in found]
    if is_defect and not absent:  # no gate judges it, but it failed
        return [Measurement.missing(suite, reason, f"the suite {suite}", is_defect=True)]
    return measured + [Measurement.missing(name, reason, is_defect=is_defect) for name in absent]


def _parse() -> argparse.Namespace:
    quick = "; ".join(gate.what for gate in GATES.values() if gate.is_quick)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.suite",
        description="Run suites, write JSON and tables, print the verdicts.",
        epilog=f"Gates of the quick run: {quick}.",
    )
    every = sorted({name for names in PROGRAMS.values() for name in names})
    parser.add_argument("program", choices=[*PROGRAMS, *every], help="a program, or one suite")
    parser.add_argument("--rounds", type=positive_int, default=MIN_ROUNDS, help="rounds that shall count")
    parser.add_argument("--round-s", type=positive_float, default=DEFAULT_ROUND_S, help="seconds of each in a round")
    parser.add_argument("--max-tags", type=positive_int, help="cut matrices down, to try a suite out")
    parser.add_argument(
        "--results",
        type=Path,
        help=f"folder for JSON and tables; by default {SCRATCH} for quick and reduced runs, else benchmarks/results, "
        "and then `make report` is done too",
    )
    return parser.parse_args()


if __name__ == "__main__":
    run_program(main)
