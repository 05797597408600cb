"""The benchmarks' records, tables, clocks and measures of memory."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from full_disk import full_disk

from benchmarks import dense_peer, gpu_only_report, head_report, worker_quality
from benchmarks.curve_settings import CurveSettings
from benchmarks.engine_work import PRIVATE
from benchmarks.environment import clean
from benchmarks.gates import NOT_MEASURED
from benchmarks.markdown import markdown_table
from benchmarks.paused_budget import PausedBudget
from benchmarks.process_memory import PeakMemory, PeakUnknown, process_tree, pss_bytes
from benchmarks.progress import Progress
from benchmarks.record import Record, check_folder, read_record, shown_command
from benchmarks.suite_options import SuiteOptions
from benchmarks.synthetic_tags import SyntheticTags
from hybrid.head import WideHead
from workers.errors import ConfigError, DataError, RunError


def test_synthetic_batches_fit_a_head():
    tags, dim = SyntheticTags(300, seed=0), 8
    features, batch = tags.batch(8, dim, positives=4)
    assert tags.counts_N.min() >= 1 and (np.diff(tags.counts_N) <= 0).all()
    with WideHead(300, dim, workers=1, negatives=16, tag_counts=tags.counts_N) as head:
        result = head.collect(head.submit(features, batch, update=True))
    assert np.isfinite(result.loss_B).all()


def passes(budget):
    """Seconds that the budget's clock counts while a fraction of a millisecond goes by."""
    before_s, until_s = budget.used_s, time.perf_counter() + 1e-4
    while time.perf_counter() < until_s:
        pass
    return budget.used_s - before_s


def test_a_paused_clock_stands_still():
    budget = PausedBudget(epochs=None, minutes=1.0, num_items=10)
    budget.start()
    assert passes(budget) == 0
    with budget.running():
        assert passes(budget) > 0
        with budget.paused():
            assert passes(budget) == 0
        assert passes(budget) > 0
    assert passes(budget) == 0
    assert 0 < budget.used_s < 60 and budget.fraction(10**6) == pytest.approx(budget.used_s / 60)


MIB = 2**20


@pytest.fixture
def obedient_child():
    """A bare process that runs the lines it is sent: torch's libraries in this one are shared with other processes."""
    runs_lines = "import sys\nfor line in sys.stdin: exec(line); print('done', flush=True)"
    child = subprocess.Popen(
        [sys.executable, "-c", runs_lines], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def run(line):
        child.stdin.write(line + "\n")
        child.stdin.flush()
        assert child.stdout.readline() == "done\n"

    run.pid = child.pid
    run("pass")
    yield run
    child.communicate(timeout=30)
    assert child.pid not in process_tree(os.getpid())


def test_pss_counts_children(obedient_child):
    assert {os.getpid(), obedient_child.pid} <= set(process_tree(os.getpid()))
    assert pss_bytes()["Pss"] > pss_bytes(obedient_child.pid)["Pss"] > 0


def test_a_peak_of_memory_that_was_given_back_at_once_is_seen(obedient_child):
    memory = PeakMemory(obedient_child.pid)
    before = memory.read()
    obedient_child("len(bytes(1) * 2**26)")
    assert pss_bytes(obedient_child.pid)["Pss"] < before["Pss"] + 32 * MIB
    for kind in ("Pss", "Pss_Anon"):
        assert 60 * MIB < memory.read()[kind] - before[kind] < 70 * MIB
    memory.reset()
    assert abs(memory.read()["Pss"] - before["Pss"]) < 8 * MIB


def test_a_peak_counts_children_that_came_later_and_what_is_still_held():
    memory = PeakMemory()
    before = memory.read()["Pss_Anon"]
    child = subprocess.Popen(
        [sys.executable, "-c", "b = b'1' * 2**26; print('filled', flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert child.stdout.readline() == b"filled\n"
        assert memory.read()["Pss_Anon"] > before + 60 * MIB
    finally:
        child.communicate(b"\n", timeout=30)


class ProcWithout:
    """/proc of a kernel that keeps something to itself: files of that name, or lines that begin so, are not there."""

    def __init__(self, monkeypatch, hidden):
        real_read, real_write = Path.read_text, Path.write_text

        def read(path, *args, **kwargs):
            if path.name == hidden:
                raise FileNotFoundError(path)
            lines = real_read(path, *args, **kwargs).splitlines(keepends=True)
            return "".join(line for line in lines if not line.startswith(hidden))

        def write(path, *args, **kwargs):
            if path.name == hidden:
                raise PermissionError(13, "Permission denied")
            return real_write(path, *args, **kwargs)

        monkeypatch.setattr(Path, "read_text", read)
        monkeypatch.setattr(Path, "write_text", write)


@pytest.mark.parametrize("hidden", ["smaps_rollup", "Pss:", "VmHWM", "clear_refs"])
def test_a_peak_that_the_kernel_does_not_tell_is_no_peak_of_nothing(hidden, monkeypatch):
    ProcWithout(monkeypatch, hidden)
    with pytest.raises(PeakUnknown, match=f"process {os.getpid()} .*{hidden.removesuffix(':')}"):
        PeakMemory().read()


def test_a_kernel_that_tells_no_peaks_leaves_the_gate_of_memory_unmeasured(monkeypatch):
    ProcWithout(monkeypatch, "smaps_rollup")
    (measured,) = dense_peer.measure_memory(PRIVATE, SuiteOptions(max_tags=300), Progress())
    verdict, why = measured.verdict()
    assert (measured.name, verdict) == (dense_peer.MEMORY, NOT_MEASURED) and "smaps_rollup" in why
    assert not measured.is_defect


def test_forced_blas_variables_are_removed():
    assert clean({"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_L2_SIZE": "1", "PATH": "x"}) == {"PATH": "x"}


def test_settings_of_a_curve_are_checked_and_hybrid_alone_has_micro_batches():
    assert CurveSettings(kind="hybrid", workers=2, seconds=60).run_config.train.microbatches == 2
    assert CurveSettings(kind="dense", epochs=1.0).run_config.train.microbatches == 1
    for wrong in [{"kind": "dense", "workers": 1, "seconds": 1}, {"kind": "sampled"}, {"kind": "dance", "seconds": 1}]:
        with pytest.raises(ConfigError):
            CurveSettings(**wrong)


def curve_result(kind, workers, num_tags, p5, rate):
    settings = {"kind": kind, "workers": workers, "seed": 0, "row_lr": 0.01}
    final = {"P@1": p5, "P@5": p5, "PSP@5": p5, "mAP": p5 / 2, "popularity": {"P@5": 0.2, "mAP": 0.1}}
    return {
        "contender": f"{kind} {workers}",
        "settings": settings,
        "num_tags": num_tags,
        "device": "cpu",
        "precision": "torch.float32",
        "trunk_threads": 2,
        "examples_per_s": rate,
        "step_ms": {"median": 1e5 / rate, "p90": 2e5 / rate},
        "phase_ms": {"forward": 1.0, "backward": 2.0},
        "memory_bytes": {"Pss": 1 << 30},
        "gpu_memory_bytes": None,
        "points": [{"seconds": s, "P@5": p5 * s / 10, "mAP": p5 * s / 20} for s in (5, 10)],
        "final": final,
    }


@pytest.fixture
def recorded(tmp_path):
    record = Record("gpu_only", "A title", {"seconds": 10})
    record.add(curve_result("hybrid", 1, 1000, 0.5, 100.0))
    record.add(curve_result("hybrid", 2, 1000, 0.6, 90.0))
    record.add(curve_result("dense", 0, 1000, 0.7, 80.0))
    record.add(curve_result("sampled", 0, 1000, 0.3, 70.0))
    record.add(curve_result("hybrid", 1, 10, 0.4, 50.0))
    return record.write(tmp_path / "results")


def test_a_record_says_where_it_was_made(recorded):
    content = json.loads(recorded.read_text())
    assert content["settings"] == {"seconds": 10} and len(content["results"]) == 5
    assert content["machine"]["cores"] >= 1 and len(content["machine"]["load_average"]) == 3
    assert content["software"]["versions"]["torch"] == torch.__version__
    assert any("architecture" in pool for pool in content["software"]["blas"])
    assert content["command"] and content["started"] <= content["written"]
    assert not list(recorded.parent.glob(".*"))


@pytest.mark.parametrize("given", [["--results", "/somewhere/else"], ["--results=/somewhere/else"], []])
def test_a_records_command_says_all_but_where_its_results_go(given, monkeypatch):
    arguments = ["/usr/bin/python3", "-m", "benchmarks.suite", "kernels", *given, "--rounds", "9"]
    monkeypatch.setattr("sys.orig_argv", arguments)
    assert Record("name", "A title", {}).content["command"] == "python3 -m benchmarks.suite kernels --rounds 9"


@pytest.mark.parametrize(
    ("recorded", "shown"),
    [
        ("python -m benchmarks.start", ".venv/bin/python -m benchmarks.start"),
        ("python3.12 -m benchmarks.suite full", ".venv/bin/python -m benchmarks.suite full"),
        ("pytest tests/python3 -x", "pytest tests/python3 -x"),
    ],
)
def test_a_command_is_shown_as_it_works_in_a_clone(recorded, shown):
    assert shown_command({"command": recorded}) == shown


def test_a_folder_that_takes_no_results_is_told_before_and_after(tmp_path):
    check_folder(tmp_path / "new" / "one")
    assert list((tmp_path / "new" / "one").iterdir()) == [], "nothing is left there"
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="file/results takes no results"):
        check_folder(tmp_path / "file" / "results")
    with pytest.raises(RunError, match="file/results"):
        Record("name", "A title", {}).write(tmp_path / "file" / "results")
    with full_disk(1000), pytest.raises(RunError, match=r"takes no results .*nothing was measured"):
        check_folder(tmp_path)


@pytest.mark.parametrize("text", [None, "", "[]", '{"format": 99}'])
def test_what_is_no_record_is_refused(tmp_path, text):
    path = tmp_path / "x.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=r"x\.json"):
        read_record(path)


def test_records_hold_no_nan(tmp_path):
    record = Record("nan", "t", {})
    record.add({"loss": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
        record.write(tmp_path)


def test_the_table_names_every_loss_of_the_hybrid(recorded):
    losses = gpu_only_report.losses(read_record(recorded))
    assert [line.split(":")[0] for line in losses] == [
        "1,000 tags, P@5",
        "1,000 tags, mAP",
        "1,000 tags, time to quality, s",
    ]
    assert "0.700 (dense 0) against 0.550 (hybrid, mean of 1 and 2 workers)" in losses[0]


def test_seeds_of_a_rival_count_with_their_mean():
    record = {"results": [curve_result("hybrid", 1, 10, 0.5, 10.0)]}
    record["results"] += [curve_result("dense", 0, 10, p5, 1.0) for p5 in (0.9, 0.2)]
    lines = {line.partition(":")[0]: line for line in gpu_only_report.losses(record)}
    assert lines["10 tags, P@5"].endswith(": 0.550 (dense 0) against 0.500 (hybrid 1)"), "neither the best nor the last"


def test_report_of_the_suite_is_written_from_the_json(recorded):
    table, plot = gpu_only_report.write_report(recorded)
    text = table.read_text()
    assert "| dense 0 | 0.01 | 80.0 | 1,250 | 2,500 | 3.0 | 1,024 | 0.700 | 0.350 | 10.0 | behind / behind |" in text
    assert text.index("## 10 tags") < text.index("## 1,000 tags") < text.index("Where the hybrid loses")
    assert "<svg" in plot.read_text()


def test_growth_compares_sizes_within_a_round():
    sizes = [
        {"num_tags": 100, "round_step_ms": [2.0, 6.0, 3.0]},
        {"num_tags": 10, "round_step_ms": [1.0, 2.0, 3.0]},
    ]
    assert head_report.growth({"results": sizes}, "round_step_ms") == [[1.0, 1.0, 1.0], [2.0, 3.0, 1.0]]


def test_other_tables_show_their_numbers(recorded):
    record = read_record(recorded)
    hybrids = [r for r in record["results"] if r["num_tags"] == 1000 and r["settings"]["workers"]]
    text = worker_quality.report_text(record | {"results": hybrids})
    assert "| 2 | 0.6000 (0.6000 to 0.6000) |" in text and "mean P@5: 10.00 points" in text
    assert markdown_table(["a", "b"], [["x", "1"]]) == "| a | b |\n| --- | ---: |\n| x | 1 |"
