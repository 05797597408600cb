"""The index of pictures that a search looks through, where the run has none of its newest checkpoint."""

import json
import shutil

import numpy as np
import pytest
import tomli_w
from click.testing import CliRunner
from untrained_run import make_untrained_run

import hybrid
from hybrid.image_index import ImageIndex
from hybrid.rundir import RunDirectory
from hybrid.verbs import verbs
from launch.config import RunConfig
from launch.runs import RunLock
from workers.errors import DataError, RunError
from workers.settings import to_plain

MAKING = "making the index of {} pictures first, which takes a moment"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return make_untrained_run(tmp_path_factory.mktemp("ready"))


@pytest.fixture
def run(whole, tmp_path):
    """A copy of a run, which a test may change."""
    shutil.copytree(whole.path, tmp_path / "run")
    return RunDirectory(tmp_path / "run")


def hits_of(result):
    return [(hit.item, round(hit.score, 4)) for hit in result.hits]


def test_a_run_without_an_index_gets_the_one_that_an_evaluation_makes(run, caplog):
    whole = ImageIndex.load(run.index)
    expected, num_pictures = hybrid.load(run.path).search("red", 5), len(whole.items_I)
    shutil.rmtree(run.index)
    found = hybrid.load(run.path).search("red", 5)
    assert [record.message for record in caplog.records] == [MAKING.format(num_pictures)]
    assert hits_of(found) == hits_of(expected)
    made = ImageIndex.load(run.index)
    assert made.items_I.tolist() == whole.items_I.tolist() and (made.fingerprint, made.step) == (whole.fingerprint, 1)
    np.testing.assert_allclose(made.features_ID, whole.features_ID, atol=1e-5)
    caplog.clear()
    assert hybrid.load(run.path).search("red", 5).hits and not caplog.records, "it is made once"


@pytest.mark.parametrize("damage", ["of an earlier step", "cut short"])
def test_an_index_that_does_not_fit_is_made_anew(run, damage):
    """A run that was resumed: its rows have learned on, the index holds what its trunk made of pictures before."""
    whole = ImageIndex.load(run.index)
    features = np.array(whole.features_ID)
    if damage == "cut short":
        (run.index / "features.npy").write_bytes((run.index / "features.npy").read_bytes()[:-5])
    else:
        ImageIndex(whole.items_I, features + 1, whole.fingerprint, step=0).save(run.index)
    loaded = hybrid.load(run.path)
    assert loaded.search("red").hits and loaded.index.step == 1
    np.testing.assert_allclose(ImageIndex.load(run.index).features_ID, features, atol=1e-5)


def test_a_search_of_an_earlier_checkpoint_leaves_the_index_of_a_later_one(run):
    """Training went on after the run was loaded."""
    loaded, index = hybrid.load(run.path), ImageIndex.load(run.index)
    shutil.copytree(run.checkpoints / "step-000000001", run.checkpoints / "step-000000002")
    ImageIndex(index.items_I, np.array(index.features_ID), index.fingerprint, step=2).save(run.index)
    assert loaded.search("red").hits and loaded.index.step == 1
    assert ImageIndex.load(run.index).step == 2


def test_a_run_that_cannot_be_written_answers_all_the_same(run, caplog):
    shutil.rmtree(run.index)
    run.evaluation_lock.unlink(missing_ok=True)
    run.evaluation_lock.mkdir()  # root may write into any folder, but nobody opens this as a file
    assert hybrid.load(run.path).search("red", 3).hits
    assert "is not kept, so the next search makes it again: cannot write" in caplog.text
    assert not run.index.exists()


def test_without_pictures_that_can_be_read_there_is_nothing_to_search(run, monkeypatch):
    shutil.rmtree(run.index)
    loaded = hybrid.load(run.path)
    monkeypatch.setattr(loaded.view, "test_items", np.empty(0, np.int64))
    with pytest.raises(DataError, match="there is none to search"):
        loaded.search("red")


def test_the_command_says_on_the_error_stream_that_it_makes_the_index(run, monkeypatch):
    monkeypatch.setattr("hybrid.verbs._quiet", lambda: None)  # logging belongs to all tests of this process
    shutil.rmtree(run.index)
    arguments = [str(run.path), "red", "--k", "12", "--json"]
    first, second = (CliRunner().invoke(verbs.commands["search"], arguments) for _ in range(2))
    assert first.exit_code == second.exit_code == 0
    assert first.stderr == f"{MAKING.format(json.loads(first.stdout)['images'])}\n" and second.stderr == ""
    assert json.loads(first.stdout) == json.loads(second.stdout)


def test_a_run_that_is_still_training_says_that_its_first_checkpoint_comes(tmp_path):
    (tmp_path / "config.toml").write_text(tomli_w.dumps(to_plain(RunConfig())))
    with RunLock(tmp_path), pytest.raises(RunError, match="is still training and has no checkpoint yet") as told:
        hybrid.load(tmp_path)
    assert "at the latest 5 minutes after the first step" in str(told.value) and "--resume" not in str(told.value)


def test_a_run_that_ended_without_a_checkpoint_says_how_to_train_on(tmp_path):
    (tmp_path / "config.toml").write_text(tomli_w.dumps(to_plain(RunConfig())))
    with pytest.raises(RunError, match=r"no whole checkpoint yet\. Train on: hybrid train --resume /"):
        hybrid.load(tmp_path)
