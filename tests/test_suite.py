"""The runner of the benchmarks: JSON, tables, exit status, and the real suites made tiny."""

import io
import json
import os
import re
import subprocess
import sys
import types

import pytest
from rich.console import Console
from scripted_trunk import ROOT

from benchmarks import suite
from benchmarks.contestant_process import ContestantLost
from benchmarks.gates import GATES, NO_GATE, NOT_MEASURED, OK, SHORT
from benchmarks.measurement import MIN_ROUNDS, Measurement
from benchmarks.progress import Progress
from benchmarks.record import RESULTS
from benchmarks.suite_options import SuiteOptions
from benchmarks.time_limits import LIMITS_S
from benchmarks.verdict_table import print_verdicts
from workers import memory
from workers.errors import RunError
from workers.memory import ArraySpec, SharedArrays
from workers.memory_units import HUGE_PAGE_BYTES


def made_up(name, values, **fields):
    return Measurement(name, "what it is", "x", values, **fields)


@pytest.fixture
def scripted(monkeypatch):
    """A suite `scripted` that measures what the test says."""
    module = types.ModuleType("benchmarks.scripted")
    module.TITLE = "Scripted"
    monkeypatch.setitem(sys.modules, "benchmarks.scripted", module)

    def measures(*measured):
        module.measure = lambda options, progress: list(measured)

    return measures


@pytest.mark.parametrize(
    ("measured", "status"),
    [
        (made_up("two_workers", [1.6] * 9), 0),
        (made_up("two_workers", [1.1] * 9), 1),
        (made_up("two_workers", [1.1] * 9, reason="busy machine"), 0),
        (Measurement.missing("two_workers", "one core only"), 0),
        (Measurement.missing("two_workers", "the engine is broken", is_defect=True), 1),
        (made_up("no_such_gate", [0.0] * 9), 0),
    ],
)
def test_only_a_missed_gate_or_a_failure_of_ours_fails_the_run(scripted, tmp_path, measured, status, capsys):
    scripted(measured)
    assert suite.run(["scripted"], SuiteOptions(), tmp_path) == status
    result = json.loads((tmp_path / "scripted.json").read_text())["results"][0]
    assert result["verdict"] == measured.verdict()[0] and result["values"] == measured.values
    assert measured.verdict()[1] in (tmp_path / "scripted.md").read_text()
    printed = capsys.readouterr().out
    assert measured.what.split()[0] in printed
    assert ("Our own side failed: the engine is broken" in printed) == measured.is_defect


def test_the_suites_own_tables_name_the_forms_against_which_a_gate_would_be_missed(scripted, tmp_path, capsys):
    gate = GATES["dense_bce_memory"]
    ratios = {gate.name: 2.86, f"{gate.name}, SGD": 1.99, f"{gate.name}, weaker": 9.0}
    scripted(*(Measurement.value(name, ratio, "x", "what") for name, ratio in ratios.items()))
    assert suite.run(["scripted"], SuiteOptions(), tmp_path) == 0
    tables = (capsys.readouterr().out, (tmp_path / "scripted.md").read_text())
    for table in tables:
        words = " ".join(table.replace("│", " ").split())
        assert "missed in other" in words and "1.99x against SGD" in words and "against weaker" not in words


@pytest.mark.parametrize(
    ("program", "seconds", "says"),
    [
        ("quick", 179.0, "quick took 179 s; 180 s are the limit."),
        ("full", 1801.0, "full took 1,801 s: too long, 1,800 s are the limit."),
        ("", 2.0, "scripted took 2 s."),
    ],
)
def test_what_a_suite_took_is_in_its_record_and_told_against_the_limit(
    scripted, tmp_path, capsys, monkeypatch, program, seconds, says
):
    now = [100.0]
    monkeypatch.setattr("benchmarks.time_limits.time", types.SimpleNamespace(monotonic=lambda: now[0]))
    scripted()

    def measure(options, progress):
        now[0] += seconds
        return [made_up("two_workers", [1.6] * 9)]

    sys.modules["benchmarks.scripted"].measure = measure
    assert suite.run(["scripted"], SuiteOptions(), tmp_path, program) == 0
    written = json.loads((tmp_path / "scripted.json").read_text())["suite"]
    assert written == {"program": program or "scripted", "elapsed_s": seconds, "program_elapsed_s": seconds}
    assert capsys.readouterr().out.splitlines()[-1] == says


def test_the_makefile_promises_the_limits_that_are_told():
    help_of = dict(re.findall(r"^(bench[a-z-]*): setup ## (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert LIMITS_S == {"quick": 3 * 60, "full": 30 * 60, "gpu_only": 90 * 60}
    assert "three minutes" in help_of["bench-quick"] and "at most 90 minutes" in help_of["bench-gpu-only"]


def test_nothing_is_measured_for_a_folder_that_takes_no_results(scripted, tmp_path):
    scripted()
    sys.modules["benchmarks.scripted"].measure = lambda *_: pytest.fail("it was measured in vain")
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="takes no results"):
        suite.run(["scripted"], SuiteOptions(), tmp_path / "file" / "results")


def test_what_cannot_be_written_any_more_is_printed_all_the_same(scripted, tmp_path, capsys):
    folder = tmp_path / "results"

    def measure(options, progress):
        folder.rmdir()
        folder.touch()
        return [made_up("two_workers", [1.6] * 9)]

    scripted()
    sys.modules["benchmarks.scripted"].measure = measure
    assert suite.run(["scripted"], SuiteOptions(), folder) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "what it is" in printed and "1.6x" in printed and "Results of scripted were not written: cannot" in printed


def test_a_gate_that_its_suite_forgets_is_shown():
    measured = suite.measured_by(
        "scaling", lambda *_: [made_up("two_workers", [2.0] * 9)], SuiteOptions(is_quick=True), Progress()
    )
    assert [m.name for m in measured] == ["two_workers", "two_workers_hot"]
    assert measured[1].verdict()[0] == NOT_MEASURED


@pytest.mark.parametrize("error", [ContestantLost("gone.\nIts last words"), MemoryError("too large")])
def test_a_suite_that_fails_leaves_its_gates_unmeasured_and_lets_others_run(error):
    def measure(options, progress):
        raise error

    measured = suite.measured_by("scaling", measure, SuiteOptions(is_quick=True), Progress())
    assert [m.verdict()[0] for m in measured] == [NOT_MEASURED] * 2
    assert all(str(error).partition("\n")[0] in m.verdict()[1] for m in measured)
    assert all(m.is_defect == isinstance(error, ContestantLost) for m in measured), "memory that is short is no defect"


def test_a_suite_without_gates_that_fails_is_a_defect_too():
    def measure(options, progress):
        raise ContestantLost("gone.")

    (measured,) = suite.measured_by("draws", measure, SuiteOptions(), Progress())
    assert measured.is_defect and "gone." in measured.reason and measured.as_json()["verdict"] == NOT_MEASURED


def test_the_table_shows_losses_and_what_was_not_measured_as_plainly_as_wins():
    screen = io.StringIO()
    rows = [
        made_up("two_workers", [1.9] * 9),
        made_up("two_workers_hot", [0.7] * 9),
        Measurement.missing("gensim", "gensim is not installed"),
    ]
    print_verdicts([row.as_json() for row in rows], Console(file=screen))
    text = screen.getvalue()
    assert f"{OK}: reaches the ambition" in text and f"{SHORT}: 58% of the way" in text
    assert "NOT MEASURED: gensim is not installed" in text and "≥ 1.5" in text


def test_a_run_that_was_cut_down_is_never_judged():
    assert SuiteOptions(max_tags=1000).reduction and SuiteOptions(rounds=MIN_ROUNDS - 1).reduction
    assert SuiteOptions(round_s=0.001).reduction and SuiteOptions(round_s=5.0).reduction
    assert SuiteOptions().reduction == ""
    assert SuiteOptions(max_tags=1000).tags(10**6) == 1000 and SuiteOptions().tags(10**6) == 10**6


def test_only_whole_runs_write_where_readme_looks():
    assert suite.results_folder(SuiteOptions()) == RESULTS
    for options in (
        SuiteOptions(is_quick=True),
        SuiteOptions(max_tags=9),
        SuiteOptions(rounds=2),
        SuiteOptions(round_s=1),
    ):
        assert suite.results_folder(options) == suite.SCRATCH


def test_help_lists_the_gates_of_the_quick_run(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["suite", "--help"])
    with pytest.raises(SystemExit):
        suite._parse()
    words = "".join(capsys.readouterr().out.split())
    quick = [gate for gate in GATES.values() if gate.is_quick]
    assert quick and all("".join(gate.what.split()) in words for gate in quick)


@pytest.mark.parametrize(
    "name",
    [
        "draws",
        pytest.param("transport", marks=pytest.mark.slow),
        pytest.param("scaling", marks=pytest.mark.slow),
        pytest.param("pipeline_efficiency", marks=pytest.mark.slow),
        pytest.param("pipeline_scaling", marks=pytest.mark.slow),
        pytest.param("cut_batches", marks=pytest.mark.slow),
    ],
)
def test_a_real_suite_runs_end_to_end(name, tmp_path, capsys):
    options = SuiteOptions(rounds=2, round_s=0.02, max_tags=1000)
    assert suite.run([name], options, tmp_path) == 0
    results = json.loads((tmp_path / f"{name}.json").read_text())["results"]
    rounds = [result["samples"]["rounds"] for result in results if "rounds" in (result["samples"] or ())]
    assert rounds and all(len(of_one) >= 2 for of_one in rounds)
    samples = [sample for of_one in rounds for round_ in of_one for sample in round_["samples"].values()]
    assert all(sample["units"] > 0 and sample["seconds"] > 0 for sample in samples)
    assert {result["verdict"] for result in results} <= {NOT_MEASURED, NO_GATE}
    assert name in capsys.readouterr().err


def test_the_program_runs_in_the_environment_of_contestants(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "OPENBLAS_CORETYPE": "Haswell", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "benchmarks.suite", "draws", "--rounds", "1", "--round-s", "0.01"]
    command += ["--max-tags", "100", "--results", str(tmp_path)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert "What was measured" in done.stdout and "which no gate judges" in done.stderr
    pools = json.loads((tmp_path / "draws.json").read_text())["software"]["blas"]
    assert pools and all(pool["num_threads"] == 1 for pool in pools)


def test_memory_on_ordinary_pages_is_told_below_the_table(scripted, tmp_path, capsys, monkeypatch):
    """They make two workers a fifth slower than huge ones would, and nobody sees why."""
    monkeypatch.setattr(memory, "_MADV_COLLAPSE", 12345)  # what the kernel does not know, it refuses
    slow = SharedArrays.create({"large": ArraySpec("<f4", (HUGE_PAGE_BYTES,))}).huge_pages
    facts = {"1M": {"memory": slow}, "10M": {"memory": "5000 huge pages of 2 MiB"}}
    scripted(*(made_up(name, [1.0], samples={"facts": facts}) for name in "ab"))
    suite.run(["scripted"], SuiteOptions(), tmp_path)
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.count(slow) == 1 and "5000 huge pages" not in printed
