"""Pictures that show the same share a key of the split."""

import errno
import os
from pathlib import Path

import pytest

from hybrid.data.copies import split_keys
from hybrid.data.prepare import silent
from workers.errors import DataError


def written(folder: Path, contents: dict[str, bytes]) -> list[str]:
    for name, content in contents.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    return list(contents)


def test_pictures_of_one_name_or_with_the_same_bytes_share_a_key(tmp_path: Path) -> None:
    contents = {
        "a.jpg": b"2",
        "a.png": b"1" * 5000,
        "b.png": b"1" * 5000,
        "c.png": b"0" + b"1" * 4999,  # of the same size, and the same at its end
        "sub/a.png": b"3",
        "no suffix.1": b"44",
        "no suffix.2": b"55",
    }
    names = [*written(tmp_path, contents), "gone.png"]
    assert split_keys(tmp_path, names, silent) == ["a", "a", "a", "c", "sub/a", "no suffix.1", "no suffix.2", "gone"]


def test_a_name_with_copies_of_two_others_joins_them(tmp_path: Path) -> None:
    names = written(tmp_path, {"a.png": b"1", "b.jpg": b"1", "b.png": b"22", "c.png": b"22"})
    assert split_keys(tmp_path, names, silent) == ["a"] * 4


def test_only_files_that_may_be_copies_are_read(tmp_path: Path) -> None:
    names = written(tmp_path, {"a.png": b"1", "b.png": b"22", "c.png": b"33"})
    looks: list[int] = []
    split_keys(tmp_path, names, lambda text, done, total: looks.append(total))
    assert looks == [3, 2]  # sizes, then ends, which differ


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    for name in ("x.png", "y.png"):
        os.mkfifo(tmp_path / name)
    assert split_keys(tmp_path, ["x.png", "y.png"], silent) == ["x", "y"]


def test_copies_are_not_taken_apart_because_a_disk_was_in_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    names = written(tmp_path, {"a.png": b"1", "b.png": b"1"})
    monkeypatch.setattr("hybrid.data.copies._content", fail)
    with pytest.raises(DataError, match=r"a\.png could not be read: .*Input/output error.*: run again"):
        split_keys(tmp_path, names, silent)
