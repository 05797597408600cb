"""Folders that are replaced whole: on any file system, by writers that fail or are killed."""

import shutil
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from hybrid.image_index import ImageIndex
from hybrid.whole_folder import where_whole, whole_folder


def write(place, text):
    with whole_folder(place) as fresh:
        (fresh / text).write_text(text)


def content(place):
    return [path.name for path in place.iterdir()]


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_folder_is_replaced_whole_on_any_file_system(tmp_path, monkeypatch, can_exchange):
    if not can_exchange:
        monkeypatch.setattr("hybrid.whole_folder._exchange", lambda one, other: False)
    place = tmp_path / "place"
    for text in ("one", "two"):
        with whole_folder(place) as fresh:
            (fresh / text).write_text(text)
    with pytest.raises(KeyError), whole_folder(place) as fresh:
        raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["place"]
    assert [path.name for path in place.iterdir()] == ["two"]


def test_a_folder_that_cannot_be_replaced_keeps_its_name(tmp_path, monkeypatch):
    """The fresh one disappears just when the names should change, on a file system that cannot exchange them."""
    place = tmp_path / "place"
    write(place, "one")
    monkeypatch.setattr("hybrid.whole_folder._exchange", lambda fresh, place: shutil.rmtree(fresh))
    with pytest.raises(FileNotFoundError):
        write(place, "two")
    assert content(tmp_path) == ["place"] and content(place) == ["one"]


KILLED_BETWEEN_RENAMES = textwrap.dedent("""
    import os, signal, sys
    from pathlib import Path
    from hybrid import whole_folder

    def rename(path, target, rename=Path.rename):
        if path.name.startswith(".unfinished-"):
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(path, target)

    whole_folder._exchange = lambda one, other: False
    Path.rename = rename
    with whole_folder.whole_folder(Path(sys.argv[1])) as fresh:
        (fresh / "two").write_text("two")
""")


@pytest.fixture
def killed(tmp_path):
    """A place whose writer was killed when neither folder had its name, on a file system that cannot exchange names."""
    place = tmp_path / "place"
    write(place, "one")
    done = subprocess.run([sys.executable, "-c", KILLED_BETWEEN_RENAMES, str(place)])
    assert done.returncode == -signal.SIGKILL and not place.exists()
    return place


def test_a_kill_between_the_renames_loses_nothing(killed):
    with pytest.raises(KeyError), whole_folder(killed):
        assert content(killed) == ["one"], "the next writer gives it its name back"
        raise KeyError
    assert content(killed.parent) == ["place"] and content(killed) == ["one"]


def test_a_writer_beside_it_gives_it_its_name_back_too(killed):
    """As the next checkpoint, whose name has another step."""
    write(killed.with_name("other"), "three")
    assert sorted(content(killed.parent)) == ["other", "place"] and content(killed) == ["one"]


def test_a_reader_finds_it_before_there_is_a_next_writer(killed):
    """Without renaming: a writer that lives, and is just between its renames, must find the name free."""
    assert content(where_whole(killed)) == ["one"] and not killed.exists()
    write(killed, "two")
    assert where_whole(killed) == killed and content(killed) == ["two"]


@pytest.mark.parametrize("names", [[], ["place"], ["place", ".replaced-place"]])
def test_a_reader_looks_nowhere_else_otherwise(tmp_path, names):
    for name in names:
        (tmp_path / name).mkdir()
    assert where_whole(tmp_path / "place") == tmp_path / "place"


def test_an_index_of_pictures_that_was_put_aside_is_loaded(tmp_path):
    ImageIndex(np.arange(2), np.ones((2, 4), np.float32), "data", 3).save(tmp_path / "index")
    (tmp_path / "index").rename(tmp_path / ".replaced-index")
    assert ImageIndex.load(tmp_path / "index").items_I.tolist() == [0, 1]


def test_what_was_replaced_goes_when_its_writer_was_killed_before_it_could_remove_it(tmp_path):
    write(tmp_path / "place", "two")
    (tmp_path / ".replaced-place").mkdir()
    (tmp_path / ".replaced-place" / "one").write_text("one")
    with whole_folder(tmp_path / "place"):
        assert len(content(tmp_path)) == 2, "the place and the fresh folder"
        assert content(tmp_path / "place") == ["two"]
