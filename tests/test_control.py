"""The control socket, the run record, the lock: how other terminals see a run."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import msgpack
import pytest
import zmq
from click.testing import CliRunner
from scripted_trunk import ROOT, wait_until

import launch.run_record
from launch.cli import main
from launch.config import RunConfig
from launch.control import ControlServer, NoAnswer, ask
from launch.run_argument import TRAINED_RUN
from launch.run_list import _listed
from launch.run_record import RunRecord, read_record, write_record
from launch.runs import RunLock, create_run, find_run, is_alive, latest_checkpoint, step_of
from launch.verbs_running import _answer
from workers.errors import RunError


def record(**changes):
    return RunRecord(**{"pid": 123, "control": "ipc:///nowhere", "started": 1.0, "state": "training", **changes})


@pytest.fixture
def server(tmp_path):
    """A server that answers in a thread of its own, as a launcher does between two looks at its processes."""

    def scale(request):
        if request.get("workers") == 13:
            raise RunError("no thirteen")
        if request.get("workers") == 14:
            raise ZeroDivisionError("a defect")
        if request.get("workers") == 15:
            return {"workers": object()}
        if request.get("workers") == 16:
            raise RunError(f"no {os.fsdecode(bytes([255]))}")
        return {"workers": request["workers"]}

    control = ControlServer(f"ipc://{tmp_path}/control", {"scale": scale})
    done = threading.Event()

    def serve():
        while not done.is_set():
            control.socket.poll(20)
            control.serve()

    thread = threading.Thread(target=serve)
    thread.start()
    yield control
    done.set()
    thread.join()
    control.close()


def test_a_request_is_answered(server):
    assert ask(server.endpoint, "scale", workers=3) == {"workers": 3}


def test_a_refusal_is_an_error_with_its_reason(server):
    with pytest.raises(RunError, match="no thirteen"):
        ask(server.endpoint, "scale", workers=13)


def test_an_unknown_request_is_refused_and_a_defect_does_not_end_the_server(server):
    with pytest.raises(RunError, match="op = 'dance', expected one of scale"):
        ask(server.endpoint, "dance")
    with pytest.raises(RunError, match="a defect"):
        ask(server.endpoint, "scale", workers=14)
    with pytest.raises(RunError, match=r"cannot be answered: .*serialize"):
        ask(server.endpoint, "scale", workers=15)
    with pytest.raises(RunError, match=r"no \\udcff"):
        ask(server.endpoint, "scale", workers=16)
    assert ask(server.endpoint, "scale", workers=2) == {"workers": 2}


@pytest.mark.parametrize("frames", [[b"\xc1"], [b""], [msgpack.packb([1])], [msgpack.packb({"op": "scale"}), b"more"]])
def test_hostile_requests_are_refused_and_the_server_lives_on(server, frames):
    socket = zmq.Context.instance().socket(zmq.REQ)
    socket.connect(server.endpoint)
    socket.send_multipart(frames)
    assert socket.poll(60_000)
    assert msgpack.unpackb(socket.recv())["ok"] is False
    socket.close(0)
    assert ask(server.endpoint, "scale", workers=2) == {"workers": 2}


def test_nobody_there_is_noticed_within_the_limit(tmp_path):
    with pytest.raises(NoAnswer, match="did not answer 'status'"):
        ask(f"ipc://{tmp_path}/nobody", "status", timeout_s=0.05)


def test_a_launcher_that_has_gone_is_not_waited_for(tmp_path):
    looks = []
    with pytest.raises(NoAnswer):
        ask(f"ipc://{tmp_path}/nobody", "status", timeout_s=600.0, is_there=lambda: bool(looks.append(1)))
    assert len(looks) == 1


def test_a_record_is_read_as_written(tmp_path):
    write_record(tmp_path, record())
    assert read_record(tmp_path) == record()
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"format": 1, "pid": "x"}', '{"format": 2}', '{"format": 1, "pid": 3}']
)
def test_a_damaged_record_is_named(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(RunError, match=r"run\.json"):
        read_record(tmp_path)


def test_a_run_directory_appears_whole_with_its_settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second = (create_run(RunConfig(), None, now=0.0) for _ in range(2))
    assert first.name.endswith("-emoji")
    assert second.name == f"{first.name}-2"
    assert {path.name for path in first.iterdir()} == {"config.toml", "log"}
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [first.name, second.name]


def test_an_own_run_directory_may_be_empty_but_not_used(tmp_path):
    (tmp_path / "mine").mkdir()
    assert create_run(RunConfig(), tmp_path / "mine") == tmp_path / "mine"
    with pytest.raises(RunError, match=r"exists.*--resume"):
        create_run(RunConfig(), tmp_path / "mine")
    assert (tmp_path / "mine" / "config.toml").is_file()


def test_last_is_the_latest_started_and_damaged_runs_do_not_hide_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, started in (("c", 5.0), ("b", 7.0), ("a", 6.0), ("d", 0.0)):
        (tmp_path / "runs" / name).mkdir(parents=True)
        write_record(tmp_path / "runs" / name, record(started=started))
    (tmp_path / "runs" / "d" / "run.json").write_text("{")
    assert find_run("last") == tmp_path / "runs" / "b"
    assert find_run("c") == find_run("runs/c") == find_run(str(tmp_path / "runs" / "c")) == tmp_path / "runs" / "c"


def test_a_start_that_failed_does_not_hide_the_last_trained_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, started in (("trained", 5.0), ("failed", 7.0)):
        write_record(create_run(RunConfig(), tmp_path / "runs" / name), record(started=started))
    assert find_run("last", is_trained=True) == tmp_path / "runs" / "failed"  # there is no better one yet
    (tmp_path / "runs" / "trained" / "checkpoints" / "step-000000001" / "matrix").mkdir(parents=True)
    assert find_run("last", is_trained=True) == tmp_path / "runs" / "trained"
    assert find_run("last") == tmp_path / "runs" / "failed"
    assert TRAINED_RUN.convert("last", None, None) == tmp_path / "runs" / "trained"
    assert "last is trained: failed, started since, has no checkpoint." in capsys.readouterr().err


def test_status_without_a_run_lists_all_of_them_the_newest_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, started, state in (("a", 5.0, "finished"), ("b", 7.0, "training"), ("c", 6.0, "failed")):
        write_record(create_run(RunConfig(), tmp_path / "runs" / name), record(started=started, state=state))
    (tmp_path / "runs" / "a" / "checkpoints" / "step-000001234" / "matrix").mkdir(parents=True)
    lines = CliRunner().invoke(main, ["status"]).output.splitlines()
    assert [line.split()[:2] for line in lines] == [["b", "died"], ["c", "failed"], ["a", "finished"]]
    assert lines[0].endswith("nothing saved") and lines[2].endswith("saved at step 1,234")
    listed = json.loads(CliRunner().invoke(main, ["status", "--json"]).output)["runs"]
    assert [(Path(one["run"]).name, one["saved_step"]) for one in listed] == [("b", None), ("c", None), ("a", 1234)]


def test_a_run_that_ends_or_begins_while_it_is_looked_at_has_not_died(tmp_path, monkeypatch):
    directory = create_run(RunConfig(), tmp_path / "run")
    write_record(directory, record())
    locks, parse = [RunLock(directory)], launch.run_record._record

    def parse_and_change(path, values):
        """The lock is let go of after the first look at the record, and taken again after the second."""
        found = parse(path, values)
        if locks:
            locks.pop().__exit__(None, None, None)
        else:
            locks.append(RunLock(directory))
        return found

    monkeypatch.setattr(launch.run_record, "_record", parse_and_change)
    assert _listed(directory).state == "training" and not is_alive(directory)
    assert _listed(directory).state == "training" and is_alive(directory)
    locks.pop().__exit__(None, None, None)


def test_status_without_any_run_says_how_to_start_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["status"])
    assert result.exit_code == 1 and "start one with `hybrid train`" in result.output


def test_only_whole_checkpoints_count(tmp_path):
    assert latest_checkpoint(tmp_path) is None
    for name in ("step-000000009", "step-000000010", ".unfinished-x"):
        (tmp_path / "checkpoints" / name / "matrix").mkdir(parents=True)
    (tmp_path / "checkpoints" / "step-000000011").mkdir()
    (tmp_path / "checkpoints" / "step-000000012-good" / "matrix").mkdir(parents=True)
    assert latest_checkpoint(tmp_path) == tmp_path / "checkpoints" / "step-000000010"
    assert step_of(latest_checkpoint(tmp_path)) == 10
    (tmp_path / "checkpoints" / "step-1000000000" / "matrix").mkdir(parents=True)
    assert step_of(latest_checkpoint(tmp_path)) == 10**9


def test_a_live_run_refuses_a_second_launcher(tmp_path):
    write_record(tmp_path, record())
    with RunLock(tmp_path):
        assert is_alive(tmp_path)
        with pytest.raises(RunError, match=r"is alive \(process 123\)"):
            RunLock(tmp_path)
    assert not is_alive(tmp_path)
    with RunLock(tmp_path):
        pass


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    with RunLock(tmp_path):
        pass

    def flock(fd, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", flock)
    for look in (RunLock, is_alive):
        with pytest.raises(RunError, match=r"cannot be locked: No locks available\..*--run-dir"):
            look(tmp_path)


def test_a_killed_launcher_holds_no_lock(tmp_path):
    code = "import sys, pathlib, launch.runs as r; lock = r.RunLock(pathlib.Path(sys.argv[1])); print('held'); input()"
    holder = subprocess.Popen(
        [sys.executable, "-u", "-c", code, str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout.readline() == "held\n"
    assert is_alive(tmp_path)
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()
    wait_until(lambda: not is_alive(tmp_path), "the lock to be free")


@pytest.mark.parametrize("verb", [["scale", "3"], ["stop"], ["status"]])
def test_a_stale_record_is_recognised(tmp_path, monkeypatch, verb):
    monkeypatch.chdir(tmp_path)
    directory = create_run(RunConfig(), tmp_path / "runs" / "old")
    write_record(directory, record())
    name, *rest = verb
    result = CliRunner().invoke(main, [name, "last", *rest])
    assert "process 123) died while it was training" in result.output
    assert "Nothing was saved yet. To start again" in result.output and "train --resume" in result.output
    assert result.exit_code == (0 if name == "status" else 1)


@pytest.mark.parametrize(
    ("recorded", "told", "status"),
    [("stopped", "stopped", 0), ("finished", "finished", 0), ("failed", "failed", 1), ("training", "died", 1)],
)
def test_stop_fails_where_the_run_did_not_end_in_order(tmp_path, monkeypatch, recorded, told, status):
    """The run is alive when it is asked, and is not when it is looked at next."""
    monkeypatch.chdir(tmp_path)
    write_record(create_run(RunConfig(), tmp_path / "runs" / "old"), record(state=recorded))
    monkeypatch.setattr("launch.verbs_running._ask", lambda directory, op: ({}, record()))
    result = CliRunner().invoke(main, ["stop", "last", "--json"])
    assert (json.loads(result.output), result.exit_code) == ({"state": told}, status)


@pytest.mark.parametrize("left", ["stopped", "training"])
def test_a_launcher_that_has_only_just_taken_a_run_is_asked_once_the_record_is_its_own(
    tmp_path, monkeypatch, server, left
):
    """Until then the record names a launcher before it, that has stopped or died."""
    directory = create_run(RunConfig(), tmp_path / "run")
    write_record(directory, record(state=left))
    endpoints = []

    def ask_and_record(endpoint, op, **fields):
        endpoints.append(endpoint)
        write_record(directory, record(state="preparing", control=server.endpoint))
        return ask(endpoint, op, **fields)

    monkeypatch.setattr("launch.control.ask", ask_and_record)
    with RunLock(directory):
        answer, asked = _answer(directory, "scale", workers=3)
    assert answer == {"workers": 3} and asked.control == server.endpoint
    assert endpoints == ["ipc:///nowhere", server.endpoint]


def stop_while(monkeypatch, directory, *records):
    """What `hybrid stop` of a live run says, which has these records one after the other, then none but the last."""
    later = list(records)

    def sleep(seconds):
        if later:
            write_record(directory, later.pop(0))
        else:
            lock.__exit__(None, None, None)

    monkeypatch.setattr("launch.verbs_running.time", SimpleNamespace(monotonic=time.monotonic, sleep=sleep))
    monkeypatch.setattr("launch.verbs_running._ask", lambda directory, op: ({}, record()))
    write_record(directory, record())
    lock = RunLock(directory)
    result = CliRunner().invoke(main, ["stop", str(directory)])
    if is_alive(directory):
        lock.__exit__(None, None, None)
    assert result.exit_code == 0, result.output
    return result.output.strip(), later


def test_stop_waits_for_the_launcher_that_was_asked_and_for_no_other(tmp_path, monkeypatch):
    directory = create_run(RunConfig(), tmp_path / "run")
    never, stopped = record(state="failed"), record(state="stopped")
    another = record(pid=456, control="ipc:///another", state="preparing")
    goes_on = f"{directory}: has ended, and another launcher (process 456) goes on with it"
    assert stop_while(monkeypatch, directory, stopped, another, never) == (goes_on, [never])
    left_by_a_resume_without_a_step = record(control="ipc:///before", state="stopped")
    assert stop_while(monkeypatch, directory, left_by_a_resume_without_a_step) == (f"{directory}: stopped", [])


@pytest.mark.parametrize(
    ("verb", "told", "status"),
    [
        (["status"], "is not running: finished.", 0),
        (["stop"], ": finished", 0),
        (["stop", "--no-wait"], ": finished", 0),
        (["scale", "3"], "is not running: finished.", 1),
    ],
)
def test_a_run_that_ends_before_it_answers_has_ended(tmp_path, monkeypatch, verb, told, status):
    monkeypatch.chdir(tmp_path)
    directory = create_run(RunConfig(), tmp_path / "runs" / "old")
    write_record(directory, record())
    lock = RunLock(directory)

    def ask_in_vain(endpoint, op, **fields):
        write_record(directory, record(state="finished"))
        lock.__exit__(None, None, None)
        raise NoAnswer("the launcher did not answer")

    monkeypatch.setattr("launch.control.ask", ask_in_vain)
    name, *rest = verb
    result = CliRunner().invoke(main, [name, "last", *rest])
    assert told in result.output.replace("\n", "") and result.exit_code == status


def test_a_launcher_that_is_alive_and_does_not_answer_is_an_error(tmp_path, monkeypatch):
    directory = create_run(RunConfig(), tmp_path / "run")
    write_record(directory, record())

    def ask_in_vain(endpoint, op, **fields):
        raise NoAnswer("the launcher did not answer")

    monkeypatch.setattr("launch.control.ask", ask_in_vain)
    with RunLock(directory):
        result = CliRunner().invoke(main, ["stop", str(directory)])
    assert "did not answer" in result.output and result.exit_code == 1


def test_the_status_of_an_ended_run_as_json(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_record(create_run(RunConfig(), tmp_path / "runs" / "old"), record(state="stopped"))
    status = json.loads(CliRunner().invoke(main, ["status", "last", "--json"]).output)
    assert status == {
        "run": str(tmp_path / "runs" / "old"),
        "pid": 123,
        "started": 1.0,
        "alive": False,
        "reason": "",
        "results": {},
        "state": "stopped",
    }
