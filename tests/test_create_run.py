"""Where a run directory can be made, and what is said where it cannot."""

import errno
from pathlib import Path

import pytest

from launch.config import RunConfig
from launch.runs import create_run, find_run
from workers.errors import RunError


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_link_to_an_empty_folder_means_that_folder(tmp_path):
    (tmp_path / "disk" / "empty").mkdir(parents=True)
    (tmp_path / "mine").symlink_to(tmp_path / "disk" / "empty")
    assert create_run(RunConfig(), tmp_path / "mine") == tmp_path / "disk" / "empty"
    assert find_run(str(tmp_path / "mine")).samefile(tmp_path / "disk" / "empty")
    assert names_in(tmp_path) == ["disk", "mine"] and names_in(tmp_path / "disk") == ["empty"]


def test_a_link_to_nothing_means_the_folder_that_it_names(tmp_path):
    (tmp_path / "mine").symlink_to("disk/fresh")
    assert create_run(RunConfig(), tmp_path / "mine") == tmp_path / "disk" / "fresh"
    assert (tmp_path / "mine" / "config.toml").is_file()


@pytest.mark.parametrize("kind", ["file", "folder", "loop"])
def test_what_is_there_and_is_no_run_is_not_offered_for_a_resume(tmp_path, kind):
    place = tmp_path / "mine"
    if kind == "file":
        place.touch()
    elif kind == "loop":
        place.symlink_to(place)
    else:
        place.mkdir()
        (place / "notes.txt").touch()
    with pytest.raises(RunError, match=r"mine exists\. Choose another --run-dir\.$"):
        create_run(RunConfig(), place)
    assert names_in(tmp_path) == ["mine"]


def test_a_file_in_the_place_of_the_folder_of_runs_is_not_written_over(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").touch()
    with pytest.raises(
        RunError, match=rf"^cannot make .* in {tmp_path}/runs: something else has this name\. .*--run-dir"
    ):
        create_run(RunConfig(), None)


def test_a_name_that_is_too_long_is_called_so(tmp_path):
    with pytest.raises(RunError, match=r"^cannot make a run directory at .*xx: File name too long\. .*--run-dir"):
        create_run(RunConfig(), tmp_path / ("x" * 300))
    assert names_in(tmp_path) == []


def test_the_place_of_a_mounted_volume_is_not_said_to_exist(tmp_path, monkeypatch):
    """Nothing can be renamed onto it, however empty it is."""

    def rename(path, target):
        raise OSError(errno.EBUSY, "Device or resource busy", str(path), None, str(target))

    monkeypatch.setattr(Path, "rename", rename)
    (tmp_path / "volume").mkdir()
    with pytest.raises(RunError, match=r"at .*volume: Device or resource busy\. .*--run-dir"):
        create_run(RunConfig(), tmp_path / "volume")
    assert names_in(tmp_path) == ["volume"]


def test_the_root_of_all_folders_is_a_typed_error():
    with pytest.raises(RunError, match="--run-dir"):
        create_run(RunConfig(), Path("/"))
