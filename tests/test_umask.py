"""What runs write is as private as the user's umask wants it."""

import os
import stat

import pytest

from hybrid.whole_folder import whole_folder
from launch.config import RunConfig
from launch.runs import create_run
from workers.disk import make_folder, write_whole


@pytest.fixture(params=[0o022, 0o077, 0o002], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_whole_files_and_folders_keep_to_the_umask(tmp_path, umask):
    write_whole(tmp_path / "file", "new")
    write_whole(tmp_path / "file", "replaced")
    assert mode(tmp_path / "file") == 0o666 & ~umask
    for _ in range(2):
        with whole_folder(tmp_path / "folder") as fresh:
            (fresh / "inner").touch()
        assert mode(tmp_path / "folder") == 0o777 & ~umask
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_run_directory_keeps_to_the_umask(tmp_path, umask):
    run = create_run(RunConfig(), tmp_path / "run")
    assert mode(run) == mode(run / "log") == 0o777 & ~umask
    assert mode(run / "config.toml") == 0o666 & ~umask


def test_folders_of_one_prefix_have_names_of_their_own(tmp_path):
    folders = {make_folder(tmp_path, ".new-") for _ in range(50)}
    assert len(folders) == 50 and all(path.is_dir() and path.name.startswith(".new-") for path in folders)
