"""The trace of a run: what each process writes, how the parts are put together, what a real run shows."""

import json
import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from full_disk import full_disk
from scripted_trunk import ROOT, only_run, processes_of, wait_until
from shapes import start_hybrid, train_options, write_shapes
from trace_reader import overlap_us, read_trace

from hybrid.phases import PhaseTimer
from hybrid.trunk_trace import TrunkTrace
from launch.profile import TRACE_FILE, open_profile
from workers.cores import of_text
from workers.errors import ConfigError, RunError
from workers.trace import TracePart, TraceWindow, slice_event
from workers.worker_trace import WorkerTrace

NUM_STEPS = 150  # long enough that a worker which is ready a second after the other has part in them
LIMIT_S = 300.0  # kernels of changed sources are compiled first, beside other tests


def write_part(profile, steps, name="trunk"):
    part = TracePart(profile.window, name, 0)
    for step in steps:
        part.write([slice_event("step", 1000 * (step + 1), 1000 * (step + 2), step=step)])
    part.close()


def test_without_steps_nothing_is_traced(tmp_path):
    assert open_profile(tmp_path, 0, 0) is None
    assert list(tmp_path.iterdir()) == []


def test_a_trace_that_cannot_be_written_is_a_run_error(tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(RunError, match=r"cannot write .*/run/trace"):
        open_profile(tmp_path / "run", 5, 0)


def test_a_full_disk_ends_a_trace_and_nothing_else(tmp_path, caplog):
    window = TraceWindow(1, 2, tmp_path)
    part = TracePart(window, "trunk", 0)
    with full_disk():
        part.write([slice_event("forward", 0, 1)] * 3)
        part.write([slice_event("forward", 0, 1)])
        TracePart(window, "worker-0-1", 1).write([slice_event("kernel", 0, 1)])
    part.write([slice_event("forward", 0, 1)])
    part.close()
    assert [record.getMessage().split(" ends here")[0].rpartition("/")[2] for record in caplog.records] == [
        "trunk.jsonl",
        "worker-0-1.jsonl",
    ]


def test_the_window_begins_after_a_while_and_moves_with_a_resumed_run(tmp_path):
    window = open_profile(tmp_path, 5, 1000).window
    assert [step for step in range(900, 1100) if window.covers(step)] == list(range(1020, 1025))
    assert not window.is_over(1024) and window.is_over(1025)
    assert TraceWindow.of_text(window.text) == window


@pytest.mark.parametrize("text", ["", "1:2", "a:2:/tmp", "1:b:/tmp"])
def test_a_window_in_another_form_is_refused(text):
    with pytest.raises(ConfigError, match="FIRST:NUMBER:FOLDER"):
        TraceWindow.of_text(text)


def test_parts_become_one_trace_and_go(tmp_path):
    profile = open_profile(tmp_path, 5, 0)
    write_part(profile, [20, 21, 22])
    assert "steps 20 to 22" in profile.merge()
    trace = read_trace(tmp_path / TRACE_FILE)
    assert [one["args"]["step"] for one in trace.of("trunk", "step")] == [20, 21, 22]
    assert [path.name for path in tmp_path.iterdir()] == [TRACE_FILE]


def test_a_run_that_ends_before_the_window_says_so_and_keeps_the_earlier_trace(tmp_path):
    (tmp_path / TRACE_FILE).write_text("earlier")
    profile = open_profile(tmp_path, 5, 0)
    write_part(profile, [])
    assert "ended before step 20" in profile.merge()
    assert (tmp_path / TRACE_FILE).read_text() == "earlier"
    assert [path.name for path in tmp_path.iterdir()] == [TRACE_FILE]


def test_what_a_killed_process_wrote_is_kept_but_for_half_a_line(tmp_path):
    profile = open_profile(tmp_path, 5, 0)
    program = (
        "import os, sys\n"
        "from workers.trace import TracePart, TraceWindow, slice_event\n"
        "part = TracePart(TraceWindow.of_text(sys.argv[1]), 'trunk', 0)\n"
        "part.write([slice_event('step', 1000, 2000, step=20)])\n"
        'os.write(part._fd, b\'{"ph": "X", "na\')\n'
        "os.kill(os.getpid(), 9)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, "-c", program, profile.window.text], env=environment, timeout=LIMIT_S)
    assert killed.returncode == -signal.SIGKILL
    assert "steps 20 to 20" in profile.merge()
    assert len(read_trace(tmp_path / TRACE_FILE).of("trunk", "step")) == 1


def test_parts_that_cannot_be_put_together_end_no_run(tmp_path):
    profile = open_profile(tmp_path, 5, 0)
    (tmp_path / TRACE_FILE).with_suffix(".new").mkdir()
    assert "cannot be put together" in profile.merge()


def test_only_steps_of_the_window_are_written(tmp_path):
    profile = open_profile(tmp_path, 2, 0)
    timer, worker = PhaseTimer(TrunkTrace(profile.window)), WorkerTrace(profile.window, "worker-3-1", 3)
    for step in range(18, 25):
        with timer.phase("forward", microbatch=0):
            timer.trace.shipped(range(2))
        with timer.phase("wait", microbatch=0):
            timer.trace.collected(range(2))
        timer.take(step)
        for at_ns in (100, 200):  # a wait in two parts, as heartbeats leave it
            worker.add("wait", 1_000_000 * step + at_ns, 1_000_000 * step + at_ns + 100)
        worker.add("kernel", 1_000_000 * step + 300, 1_000_000 * step + 900)
        worker.finish_chunk(step, 0)
    profile.merge()
    events = json.loads((tmp_path / TRACE_FILE).read_text())["traceEvents"]
    assert {e["args"]["step"] for e in events if e["ph"] == "X"} == {20, 21}
    waits = [e for e in events if e["name"] == "wait" and "chunk" in e["args"]]
    assert [(e["ts"], e["dur"]) for e in waits] == [(20_000.1, 0.2), (21_000.1, 0.2)]
    assert [e["args"] for e in events if e["ph"] == "C"] == [{"chunks in flight": n} for n in (2, 0, 2, 0)]
    assert sorted(e["ph"] for e in events if "id" in e) == sorted("ssfft" * 2)


@pytest.fixture(scope="module")
def profiled(tmp_path_factory):
    """(run, output, affinities by command line) of a pinned and profiled run, a worker of which was killed.

    It goes on until it is told to stop, after the window.
    """
    folder = tmp_path_factory.mktemp("profile")
    write_shapes(folder / "shapes", 156)
    options = train_options(folder / "shapes", epochs=5000, profile_steps=NUM_STEPS)
    launcher = start_hybrid(folder, *options, "--pin")
    try:
        run = wait_until(lambda: only_run(folder), "the run directory", LIMIT_S)
        first, second = (run / "trace" / f"worker-{place}-1.jsonl" for place in range(2))
        wait_until(lambda: first.is_file() and second.is_file(), "both workers on their cores", LIMIT_S)
        wait_until(lambda: '"kernel"' in first.read_text(), "the window", LIMIT_S)
        cores = {command: cores_of(pid) for pid, command in processes_of(folder).items()}
        (victim,) = (pid for pid, command in processes_of(folder).items() if "--name worker-0-1 " in command)
        os.kill(victim, signal.SIGKILL)
        trunk = run / "trace" / "trunk.jsonl"
        wait_until(lambda: f'"step": {19 + NUM_STEPS}}}' in trunk.read_text(), "the end of the window", LIMIT_S)
        launcher.send_signal(signal.SIGINT)
        output, errors = launcher.communicate(timeout=LIMIT_S)
        assert launcher.returncode == 0, errors
    finally:
        launcher.kill()
    return run, output, cores


def cores_of(pid):
    """What the kernel says that a process may use."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return of_text(next(line for line in lines if line.startswith("Cpus_allowed_list:")).split(":")[1])


def test_a_real_trace_shows_trunk_and_workers_at_the_same_time(profiled):
    run, _, _ = profiled
    trace = read_trace(run / TRACE_FILE)
    assert [trace.order[name] for name in sorted(trace.names.values(), key=trace.order.get)][:2] == [0, 1]
    assert trace.order["trunk"] == 0 and {"worker-0-1", "worker-1-1"} < set(trace.names.values())
    steps = [one["args"]["step"] for one in trace.of("trunk", "step")]
    assert steps == list(range(20, 20 + NUM_STEPS))
    for name in ("load", "forward", "ship", "wait", "backward", "optimizer"):
        assert len(trace.of("trunk", name)) >= NUM_STEPS
    busy = trace.of("trunk", "forward") + trace.of("trunk", "backward")
    workers = [name for name in trace.slices if name != "trunk"]
    kernels = [one for name in workers for one in trace.of(name, "kernel")]
    assert any(overlap_us(kernel, one) > 0 for kernel in kernels for one in busy)
    for name in ("wait", "receive", "draw", "kernel", "reply"):
        assert any(trace.of(worker, name) for worker in workers)


def test_arrows_lead_from_shipping_through_a_kernel_to_the_wait(profiled):
    run, _, _ = profiled
    trace = read_trace(run / TRACE_FILE)
    ways = list(trace.flows.values())
    assert ways.count("stf") >= NUM_STEPS  # two chunks a step; that of the killed worker may have been served twice
    assert all(way.startswith("s") and way.endswith("f") for way in ways)
    assert max(trace.counts) == 2 and min(trace.counts) == 0


def test_steps_follow_each_other_without_a_gap_and_their_phases_fit_into_them(profiled):
    run, _, _ = profiled
    trace = read_trace(run / TRACE_FILE)
    for one, other in pairwise(trace.of("trunk", "step")):
        assert one["ts"] + one["dur"] == pytest.approx(other["ts"], abs=0.002)
    for step in trace.of("trunk", "step"):
        parts = [s for s in trace.slices["trunk"] if s["name"] != "step" and s["args"]["step"] == step["args"]["step"]]
        assert sum(part["dur"] for part in parts) <= step["dur"] + 1


def test_the_log_of_metrics_holds_the_phases(profiled):
    run, _, _ = profiled
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    train = [line for line in lines if line["kind"] == "train"]
    for line in train:
        assert {"load", "forward", "ship", "wait", "backward", "optimizer", "other"} <= set(line["phase_ms"])
        places = line["worker_phase_fraction_by_place"]
        assert set(places) <= {"0", "1"}
        for shares in (line["worker_phase_fraction"], *places.values()):
            assert sum(shares.values()) == pytest.approx(1)
    assert any(line["worker_phase_fraction"]["kernel"] > 0 for line in train)


def test_each_process_keeps_to_its_core(profiled):
    _, output, cores = profiled
    allowed = sorted(os.sched_getaffinity(0))
    (trunk,) = (found for command, found in cores.items() if " -m hybrid train " in command)
    workers = [found for command, found in cores.items() if " -m workers " in command]
    assert len(trunk) == 1 and [len(found) for found in workers] == [1, 1]
    if len(allowed) > 1:
        assert not set(trunk) & {core for found in workers for core in found}
    assert set(trunk).union(*workers) <= set(allowed)
    assert "note: pinned: trunk to cores" in output
    (launcher,) = (found for command, found in cores.items() if " -m launch train " in command)
    assert launcher == allowed


def test_a_run_says_where_its_trace_is_and_how_it_started(profiled):
    run, output, _ = profiled
    assert f"note: trace of steps 20 to {19 + NUM_STEPS}: {run / TRACE_FILE}; open it in ui.perfetto.dev" in output
    assert "note: kernels ready after " in output
    assert output.count("note: first step after ") == 1
