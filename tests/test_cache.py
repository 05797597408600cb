"""What is in the cache is whole, whoever was killed or came at the same time."""

import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from hybrid.data.cache import build_once
from hybrid.data.prepare import silent
from workers.cache_root import cache_root
from workers.errors import ConfigError, DataError

LIMIT_S = 30
fork = multiprocessing.get_context("fork")


def write_two(target: Path) -> None:
    (target / "a").write_text("a")
    (target / "b").write_text("b")


def test_built_once(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "thing"
    assert build_once(folder, write_two, silent) == folder
    build_once(folder, lambda target: pytest.fail("built twice"), silent)
    assert sorted(path.name for path in folder.iterdir()) == ["a", "b"]


def test_failure_leaves_nothing(tmp_path: Path) -> None:
    def fail(target: Path) -> None:
        (target / "a").write_text("a")
        raise DataError("no")

    with pytest.raises(DataError, match="no"):
        build_once(tmp_path / "thing", fail, silent)
    assert [path.name for path in tmp_path.iterdir()] == [".thing.lock"]
    build_once(tmp_path / "thing", write_two, silent)


def _half(folder: Path, says: Connection) -> None:
    def build(target: Path) -> None:
        (target / "a").write_text("half")
        says.send(str(target))
        signal.pause()

    build_once(folder, build, silent)


def test_killed_midway(tmp_path: Path) -> None:
    mine, theirs = fork.Pipe()
    builder = fork.Process(target=_half, args=(tmp_path / "thing", theirs))
    builder.start()
    assert mine.poll(LIMIT_S)
    partial = Path(mine.recv())
    assert builder.pid is not None
    os.kill(builder.pid, signal.SIGKILL)
    builder.join(LIMIT_S)
    assert not (tmp_path / "thing").exists() and partial.exists()
    build_once(tmp_path / "thing", write_two, silent)
    assert (tmp_path / "thing" / "a").read_text() == "a"
    assert not partial.exists()


def _wait_for_the_other(folder: Path, says: Connection) -> None:
    said: set[str] = set()

    def say_once(text: str, done: int, total: int) -> None:
        if text not in said:
            said.add(text)
            says.send(text)

    build_once(folder, lambda target: says.send("built"), say_once)
    says.send((folder / "a").read_text())


def test_two_at_once_build_once(tmp_path: Path) -> None:
    """The second comes while the first is building, and is seen to wait before the first is let go on."""
    mine, theirs = fork.Pipe()
    other = fork.Process(target=_wait_for_the_other, args=(tmp_path / "thing", theirs))

    def build(target: Path) -> None:
        other.start()
        assert mine.poll(LIMIT_S)
        assert "waiting" in mine.recv()
        write_two(target)

    build_once(tmp_path / "thing", build, silent)
    assert mine.poll(LIMIT_S)
    assert mine.recv() == "a"
    other.join(LIMIT_S)
    assert other.exitcode == 0


def test_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"--cache-dir or \$HYBRID_CACHE"):
        build_once(tmp_path / "file" / "thing", write_two, silent)


def test_place_of_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HYBRID_CACHE", str(tmp_path / "a"))
    assert cache_root() == tmp_path / "a"
    assert cache_root(str(tmp_path / "b")) == tmp_path / "b"
    monkeypatch.delenv("HYBRID_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root() == tmp_path / ".cache" / "hybrid"
    monkeypatch.setenv("HYBRID_CACHE", "~/c")
    assert cache_root() == tmp_path / "c"
    monkeypatch.setenv("HYBRID_CACHE", "~nobody-is-called-so/c")
    with pytest.raises(ConfigError, match=r"~nobody-is-called-so is nobody's home here\. Set HYBRID_CACHE to the path"):
        cache_root()
