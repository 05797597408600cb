"""Wide heads on disk: they go on where they were, and a save is whole or not there."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from test_head import COUNTS, TAGS, N, make_features, make_head, parameters_of

from hybrid import WideHead
from hybrid.head_folder import Draws, read_draws
from workers.errors import MatrixMismatch, RunError
from workers.matrix_io import open_rows, save_matrix

LIMIT_S = 60.0


@pytest.fixture(scope="module")
def head():
    """One worker for all."""
    with make_head() as head:
        yield head


def test_saved_and_loaded_heads_go_on_alike(tmp_path):
    """Adagrad: the accumulators must come along."""
    with make_head(row_optimizer="adagrad") as first:
        first(make_features(), TAGS)
        first.save(tmp_path / "deep" / "head")
        with WideHead.load(tmp_path / "deep" / "head", workers=1) as second:
            assert second.config == first.config
            assert (second.positives, second.seed, second.step) == (first.positives, first.seed, first.step)
            assert parameters_of(second) == parameters_of(first)
            np.testing.assert_array_equal(second.matrix.counts_N, COUNTS)
            losses = [one(make_features(seed=9), TAGS).item() for one in (first, second)]
            assert losses[0] == losses[1]
            assert parameters_of(second) == parameters_of(first)


def test_what_was_set_on_a_head_comes_along(tmp_path):
    with make_head() as first:
        first.row_lr, first.num_negatives = np.float32(0.25), 3
        first.save(tmp_path)
        with WideHead.load(tmp_path, workers=1) as second:
            assert (second.row_lr, second.num_negatives) == (0.25, 3) and second.config == first.config
            losses = [one(make_features(), TAGS).item() for one in (first, second)]
            assert losses[0] == losses[1]
            assert parameters_of(second) == parameters_of(first)


def test_a_folder_from_before_they_were_noted_loads_with_those_of_the_configuration(head, tmp_path):
    head.save(tmp_path)
    (tmp_path / "matrix" / "draws.json").write_text('{"positives": 4, "seed": 5, "step": 6}')
    with WideHead.load(tmp_path, workers=1) as again:
        assert (again.positives, again.seed, again.step) == (4, 5, 6)
        assert (again.row_lr, again.num_negatives) == (head.config.row_lr, head.config.negatives)


def test_a_head_whose_writer_was_killed_between_two_names_is_loaded(head, tmp_path):
    """On a file system that cannot exchange names what was there before is put aside for an instant."""
    head.save(tmp_path)
    (tmp_path / "matrix").rename(tmp_path / ".replaced-matrix")
    with WideHead.load(tmp_path, workers=1) as again:
        assert parameters_of(again) == parameters_of(head) and again.seed == head.seed


def test_a_head_that_was_not_saved_whole_is_not_loaded(head, tmp_path):
    with pytest.raises(MatrixMismatch, match=f"no saved head at {tmp_path / 'none'}: there is no such folder"):
        WideHead.load(tmp_path / "none")
    with pytest.raises(MatrixMismatch, match=f"no saved head at {tmp_path}: nothing was saved"):
        WideHead.load(tmp_path)
    head.save(tmp_path)
    with (tmp_path / "matrix" / "rows-00000.npy").open("r+b") as file:
        file.truncate(500)
    with pytest.raises(MatrixMismatch, match=r"rows-00000\.npy"):
        WideHead.load(tmp_path)


def test_a_save_replaces_the_one_before_at_once_or_not_at_all_and_nothing_beside_it(head, tmp_path, monkeypatch):
    (tmp_path / "trunk.pt").write_bytes(b"the user's")
    head.save(tmp_path)
    first = open_rows(tmp_path / "matrix").rows(0, N).copy()
    head(make_features(), TAGS)

    def fail(*arguments, **named):
        (arguments[1] / "rows-00000.npy").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(RunError, match="No space left"):
        patch.setattr("hybrid.head_folder.save_matrix", fail)
        head.save(tmp_path)
    np.testing.assert_array_equal(open_rows(tmp_path / "matrix").rows(0, N), first)
    head.save(tmp_path)
    assert (open_rows(tmp_path / "matrix").rows(0, N) != first).any()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["matrix", "trunk.pt"]


def test_threads_that_save_into_one_folder_take_turns_while_steps_go_on(head, tmp_path, monkeypatch):
    both, entered, go_on = threading.Barrier(2), [], threading.Event()

    def save_slowly(*arguments, **named):
        entered.append(threading.current_thread())
        go_on.wait(LIMIT_S)
        return save_matrix(*arguments, **named)

    def save():
        both.wait(LIMIT_S)
        head.save(tmp_path)

    monkeypatch.setattr("hybrid.head_folder.save_matrix", save_slowly)
    with ThreadPoolExecutor(2) as threads:
        saves = [threads.submit(save) for _ in range(2)]
        head(make_features(), TAGS)
        time.sleep(0.2)  # both would be in it by now
        num_inside = len(entered)
        go_on.set()
        for done in saves:
            done.result(LIMIT_S)
    assert num_inside == 1 and len(set(entered)) == 2
    np.testing.assert_array_equal(open_rows(tmp_path / "matrix").rows(0, N), head.matrix.rows(0, N))


@pytest.mark.parametrize("content", ["", "[]", '{"positives": "many"}', '{"p": 1}'])
def test_damaged_draws_are_named_and_given_ones_count(head, tmp_path, content):
    head.step = 7
    head.save(tmp_path)
    assert read_draws(tmp_path, positives=None, seed=99) == replace(Draws.of(head), seed=99, step=7)
    (tmp_path / "matrix" / "draws.json").write_text(content)
    with pytest.raises(MatrixMismatch, match=r"draws\.json"):
        read_draws(tmp_path, positives=None, seed=None)
