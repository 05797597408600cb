"""Private endpoints: what an owner that was killed outright left is removed, and nothing else."""

import os
import socket
import tempfile
from pathlib import Path

import pytest

from workers.endpoint import make_endpoint
from workers.errors import RunError


@pytest.fixture
def base(monkeypatch):
    """The folder for temporary files, with a name that leaves room for sockets."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


def left_endpoint():
    """A private directory with a socket that somebody listens to; both."""
    directory = Path(make_endpoint().removeprefix("ipc://")).parent
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(directory / "control"))
    listener.listen()
    return directory, listener


def grow_old(directory):
    os.utime(directory, (1, 1))


def test_a_directory_in_which_nobody_listens_any_more_is_removed(base):
    directory, listener = left_endpoint()
    listener.close()
    grow_old(directory)
    fresh = Path(make_endpoint().removeprefix("ipc://")).parent
    assert list(base.iterdir()) == [fresh]


def test_a_directory_without_any_socket_is_removed(base):
    directory = Path(make_endpoint().removeprefix("ipc://")).parent
    grow_old(directory)
    make_endpoint()
    assert not directory.exists()


def test_an_old_directory_with_a_listener_stays(base):
    directory, listener = left_endpoint()
    with listener:
        (directory / "dead").touch()
        grow_old(directory)
        make_endpoint()
        assert (directory / "control").is_socket()


def test_a_young_directory_stays(base):
    directory, listener = left_endpoint()
    listener.close()
    make_endpoint()
    assert (directory / "control").is_socket()


def test_a_directory_of_another_host_stays(base):
    directory, listener = left_endpoint()
    listener.close()
    other = directory.rename(base / "hybrid-ipc-another0-abcdefgh")
    grow_old(other)
    make_endpoint()
    assert (other / "control").is_socket()


def test_no_folder_for_sockets_is_an_error_that_says_what_to_do(base):
    base.rmdir()
    with pytest.raises(RunError, match=r"no directory for sockets can be made: .* Set TMPDIR"):
        make_endpoint()
    base.mkdir()
