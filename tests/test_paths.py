"""Paths that cannot be, or may not be looked at: told with what to do, or passed over where they are another user's."""

import errno
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from launch.cli import main
from launch.config import RunConfig
from launch.resolve import resolve
from launch.run_list import list_runs
from launch.run_record import RunRecord, write_record
from launch.runs import create_run, find_run, latest_checkpoint
from workers.errors import ConfigError, RunError

NOBODY = "~nobody-is-called-so/x"
NO_HOME = "but ~nobody-is-called-so is nobody's home here. Write the path in full"


def invoke(*arguments):
    return CliRunner().invoke(main, arguments, prog_name="hybrid")


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """The folder of two runs, `mine` and a later one, `closed`, under the working directory."""
    monkeypatch.chdir(tmp_path)
    for name, started in (("mine", 1.0), ("closed", 2.0)):
        directory = create_run(RunConfig(), tmp_path / "runs" / name)
        (directory / "checkpoints" / "step-000000003" / "matrix").mkdir(parents=True)
        write_record(directory, RunRecord(pid=1, control="ipc:///nowhere", started=started, state="finished"))
    return tmp_path / "runs"


@pytest.fixture
def closed(monkeypatch):
    """What is below a folder called `closed` is refused, as in one of mode 0700 to all but its owner, and to root."""
    look = os.stat

    def refuse(path, *arguments, **options):
        if not isinstance(path, int) and "closed" in Path(os.fsdecode(path)).parts[:-1]:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return look(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", refuse)


def test_a_run_that_is_closed_to_us_does_not_hide_the_others(runs, closed):
    assert [Path(one.run).name for one in list_runs()] == ["mine"]
    assert find_run("last") == find_run("last", is_trained=True) == runs / "mine"
    assert latest_checkpoint(runs / "closed") is None
    with pytest.raises(RunError, match="no run 'closed' here"):
        find_run("closed")


def test_a_folder_of_pictures_that_is_closed_to_us_is_told_with_the_reason(tmp_path, runs, closed):
    (tmp_path / "closed" / "photos").mkdir(parents=True)
    told = r"closed/photos' cannot be looked at: Permission denied\. Give a folder that you may read"
    with pytest.raises(ConfigError, match=rf"data\.source = '.*{told}"):
        resolve(named={"data.source": f"folder:{tmp_path}/closed/photos"})
    result = invoke("evaluate", "last", "--data", f"folder:{tmp_path}/closed/photos")
    assert result.exit_code == 2 and "closed/photos' cannot be looked at: Permission denied" in result.output


@pytest.mark.parametrize("command", [["train", "--data"], ["data", "stats"], ["evaluate", "last", "--data"]])
@pytest.mark.parametrize(
    ("path", "told"),
    [
        (NOBODY, [NO_HOME]),
        ("loop/x", ["leads nowhere: Symlink loop", "looked at: Too many levels of symbolic links"]),  # Python 3.13
        ("x" * 300, ["cannot be looked at: File name too long"]),
    ],
    ids=["no home", "loop", "too long"],
)
def test_a_folder_of_pictures_that_cannot_be_is_refused_with_what_to_do(runs, command, path, told):
    Path("loop").symlink_to("loop")
    result = invoke(*command, f"folder:{path}")
    assert result.exit_code == 2 and any(text in result.output for text in told), result.output


def test_a_place_of_the_cache_in_nobodys_home_is_refused_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke("train", "--cache-dir", NOBODY)
    assert result.exit_code == 2 and f"data.cache_dir = '{NOBODY}', {NO_HOME}, or './~nobody" in result.output
    assert list(tmp_path.iterdir()) == []


def test_a_folder_whose_name_begins_like_a_home_is_written_as_the_error_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / NOBODY).mkdir(parents=True)
    assert resolve(named={"data.source": f"folder:./{NOBODY}"}).data.source == f"folder:{tmp_path / NOBODY}"
