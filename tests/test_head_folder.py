"""Wide heads on disk: they go on where they were, and a save is whole or not there."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from scripted_trunk import wait_until
from test_head import COUNTS, TAGS, N, make_features, make_head, parameters_of

from hybrid import WideHead
from hybrid.head_folder import Draws, read_draws
from workers.errors import ConfigError, DataError, MatrixMismatch, RunError
from workers.matrix_io import open_rows, save_matrix
from workers.objectives import initial_bias_N

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
        wait_until(lambda: entered, "one of them to save", LIMIT_S)
        head(make_features(), TAGS)
        time.sleep(0.2)  # the other would be in it by now
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


def ranked(head):
    ids, scores = head.topk(make_features(), head.num_tags)
    return ids, scores


OTHER_COUNTS = np.concatenate([np.roll(COUNTS, 7) + 3, [50, 9, 1]])


@pytest.mark.parametrize("changes", [{}, {"alpha": 0.5, "negative_weight": 7.0}, {"objective": "sampled-softmax"}])
@pytest.mark.parametrize("objective", ["negative-sampling", "sampled-softmax"])
def test_saved_tags_rank_as_before_under_other_counts_and_settings_and_new_ones_learn(tmp_path, objective, changes):
    with make_head(objective=objective, row_optimizer="adagrad") as head:
        for _ in range(5):
            head(make_features(), TAGS)
        ids, scores = ranked(head)
        before, accumulators = head.matrix.rows_ND.copy(), head.matrix.tag_state_N4[:, 1:3].copy()
        head.save(tmp_path)
    with WideHead.load(tmp_path, 1, tag_counts=OTHER_COUNTS, **changes) as more:
        assert more.num_tags == N + 3 and more.step == 5
        np.testing.assert_array_equal(more.matrix.rows_ND[:N], before)
        np.testing.assert_array_equal(more.matrix.tag_state_N4[:N, 1:3], accumulators)
        assert (more.matrix.tag_state_N4[N:, 1:3] == 0).all() and (more.matrix.rows_ND[N:] != 0).any()
        ids_now, scores_now = ranked(more)
        for b in range(len(ids)):
            is_saved = ids_now[b] < N
            assert ids_now[b][is_saved].tolist() == ids[b].tolist()
            shift = scores_now[b][is_saved] - scores[b]
            assert shift == pytest.approx(torch.full((N,), float(shift.mean())), abs=1e-4)
        expected = initial_bias_N(more.config, more.matrix.counts_N / OTHER_COUNTS.sum(), more.matrix.log_q_N)
        assert more.matrix.bias_N[N:] == pytest.approx(expected[N:], abs=1e-5)
        new = more.matrix.rows_ND[N:].copy()
        more(make_features(), [[N], [N + 1], [N + 2], [N], [3]])
        assert (more.matrix.rows_ND[N:] != new).any(axis=1).all()


def test_tags_that_come_into_use_start_afresh_and_those_that_go_keep_what_they_learned(tmp_path):
    counts = COUNTS.copy()
    counts[[5, 6]] = 0
    with make_head(tag_counts=counts) as head:
        head.save(tmp_path)
        bias_N = head.matrix.bias_N.copy()
    swapped = COUNTS.copy()
    swapped[[7, 8]] = 0
    with WideHead.load(tmp_path, 1, tag_counts=swapped) as other:
        assert np.isfinite(other.matrix.bias_N).all()
        expected = initial_bias_N(other.config, swapped / swapped.sum(), other.matrix.log_q_N)
        assert other.matrix.bias_N[[5, 6]] == pytest.approx(expected[[5, 6]], abs=1e-5)
        assert other.matrix.bias_N[[7, 8]] == pytest.approx(bias_N[[7, 8]])
        ids, _ = ranked(other)
        assert not np.isin(ids.numpy(), [7, 8]).any() and np.isin([5, 6], ids.numpy()).all()


def test_settings_given_to_load_come_before_the_saved_ones(tmp_path):
    with make_head() as head:
        head.row_lr, head.num_negatives = 0.07, 12
        head.save(tmp_path)
    with WideHead.load(tmp_path, 1, row_optimizer="adagrad", max_norm=2.0) as again:
        assert (again.row_lr, again.num_negatives, again.config.max_norm) == (pytest.approx(0.07), 12, 2.0)
    with WideHead.load(tmp_path, 1, row_lr=0.01, negatives=9) as again:
        assert (again.row_lr, again.num_negatives) == (pytest.approx(0.01), 9)


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({"tag_counts": COUNTS[:-1]}, DataError, "tag_counts has 39 entries, but 40 rows are saved"),
        ({"num_tags": 50}, ConfigError, "no setting 'num_tags'.*tag_counts"),
        ({"objective": "softmax"}, ConfigError, "head.objective = 'softmax'"),
        ({"tag_counts": -COUNTS}, DataError, "counts"),
    ],
)
def test_what_a_saved_head_cannot_become_is_refused(head, tmp_path, changes, error, told):
    head.save(tmp_path)
    with pytest.raises(error, match=told):
        WideHead.load(tmp_path, 1, **changes)
