"""What the system refuses when a run starts is told in one line, with what to do, and no traceback."""

import errno
import os
import sys

import pytest
import zmq
from click.testing import CliRunner
from scripted_trunk import PROGRAM

import launch.child
import launch.views
from launch.cli import main
from launch.train import FAILED_STATUS


@pytest.mark.parametrize(
    ("place", "error", "told"),
    [
        ("fcntl.flock", OSError(errno.ENOLCK, os.strerror(errno.ENOLCK)), "cannot be locked: No locks available"),
        ("tempfile.gettempdir", FileNotFoundError(errno.ENOENT, "no usable folder"), "no directory for sockets"),
        ("zmq.Socket.bind", zmq.ZMQError(errno.EOPNOTSUPP), "no socket can be made at ipc://"),
        ("launch.resources.make_ring", MemoryError("no room"), "the ring cannot be made: no room."),
        ("launch.resources.make_ring", OSError(errno.EMFILE, "too many files"), "the ring cannot be made: "),
    ],
    ids=["locks", "temporary-folder", "sockets", "ring", "ring-descriptor"],
)
def test_what_the_system_refuses_is_one_line(tmp_path, monkeypatch, place, error, told):
    def refuse(*arguments, **options):
        raise error

    monkeypatch.setattr(launch.child, "TRUNK_COMMAND", (sys.executable, str(PROGRAM)))
    monkeypatch.setattr(launch.views, "_STOP_S", 60.0)  # for a busy machine: a view that is stuck ends the process
    monkeypatch.setenv("SCRIPT", "{}")
    monkeypatch.setattr(place, refuse)
    result = CliRunner().invoke(main, ["train", "--run-dir", str(tmp_path / "run"), "--workers", "1", "--dim", "8"])
    assert result.exit_code == FAILED_STATUS
    assert sum(line.startswith("Error: ") for line in result.output.splitlines()) == 1
    assert told in result.output
    assert "Traceback" not in result.output and "defect" not in result.output
