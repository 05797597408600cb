"""What is told of a write that the system refuses: its words and, where room is short, figures and what to do."""

import errno
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from full_disk import full_disk

from workers.disk import write_whole
from workers.errors import RunError
from workers.refused_write import free_bytes, refused_write, size_text


def refusal(number):
    return OSError(number, os.strerror(number))


def test_a_full_disk_says_how_much_is_wanted_and_free_where_nothing_is_yet(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=12_288) if path == tmp_path else 1 / 0)
    told = refused_write(refusal(errno.ENOSPC), tmp_path, 15_000_000)
    assert told == "No space left on device (15 MB wanted, 12 kB free): make room there"


def test_room_is_that_of_the_nearest_folder_that_is_there(tmp_path):
    assert free_bytes(tmp_path / "not" / "there") == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOSPC, "No space left on device: make room there"),
        (errno.EDQUOT, "Disk quota exceeded: remove what is not needed there, or have the quota raised"),
        (errno.EFBIG, "File too large: write to another file system"),
        (errno.EACCES, "Permission denied"),
    ],
)
def test_what_helps_depends_on_what_is_short(number, told, monkeypatch):
    monkeypatch.setattr("resource.getrlimit", lambda which: (-1, -1))
    assert refused_write(refusal(number)) == told


def test_an_error_without_a_number_is_told_as_it_is():
    assert refused_write(OSError("dreadful")) == "dreadful"


def test_a_file_that_the_limit_of_the_shell_refuses_names_it(tmp_path):
    with full_disk(1000), pytest.raises(RunError) as caught:
        write_whole(tmp_path / "results.json", b"x" * 2000)
    told = "File too large (2 kB wanted, ulimit -f allows 1 kB): raise that limit."
    assert str(caught.value) == f"cannot write {tmp_path}/results.json: {told}"


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (1234, "1.2 kB"), (9_999_999, "10 MB"), (2.5e12, "2500 GB")],
)
def test_sizes_have_two_digits_where_they_are_small(num_bytes, text):
    assert size_text(num_bytes) == text


def test_an_array_of_which_numpy_wrote_a_part_is_told_as_a_full_disk():
    """It does not keep the system's number."""
    error = OSError("1000000 requested and 261088 written")
    told = refused_write(error, Path("/"), wanted_bytes=8_000_000)
    assert "MB wanted" in told
    assert "free" in told and told.endswith("make room there")
    assert refused_write(OSError("5 requested"), Path("/")) == "5 requested"
