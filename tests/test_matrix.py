"""The tag matrix: what it starts with, what it refuses, how it is shared."""

import gc
import itertools
import os
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from naive import fresh_rows
from wide_cases import make_config, make_matrix

from workers.counters import FRESH_ROWS, stream_key
from workers.errors import DataError, MatrixMismatch
from workers.fresh_rows import _BLOCK_ROWS, fill_rows
from workers.matrix import TagMatrix
from workers.memory import ArraySpec, SharedArrays
from workers.objectives import UNSEEN_BIAS, log_probability_correction_N
from workers.sampler import FIRST, SIZE
from workers.tag_weights import inverse_frequency_weights
from workers.tags import BIAS, BIAS_ACC, ROW_ACC

COUNTS = np.array([40, 0, 10, 5, 45])
MARGINAL = np.array([0.5, 0, 0.2, 0.1, 0.2])


def create(config, **arguments):
    return TagMatrix.create(5, 4, config=config, **{"counts": COUNTS, "marginal": MARGINAL, **arguments})


def test_nothing_stays_poison():
    config = make_config()
    for matrix in (TagMatrix.create(70_000, 12, config=config), make_matrix(config)):
        assert np.isfinite(matrix.rows_ND).all()
        assert np.isfinite(matrix.tag_state_N4).all()
        assert matrix.counts_N.min() >= 1
        assert (matrix.sampler_groups_G4[:, [FIRST, SIZE]].sum(axis=1) <= matrix.num_tags).all()
        assert not matrix.worker_stats_WS.any()
        assert matrix.item_offsets[0] == 0


def test_rows_start_small_random_and_reproducible():
    config = make_config(init_scale=0.05)
    first, same, other = (TagMatrix.create(20_000, 64, config=config, seed=s).rows_ND for s in (3, 3, 4))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)
    assert abs(first.std() / (0.05 / 8) - 1) < 0.01
    assert abs(first.mean()) < 1e-4
    assert len(np.unique(first[:, 0])) > 19_000


def test_accumulators_start_at_zero():
    matrix = create(make_config())
    assert not matrix.tag_state_N4[:, [ROW_ACC, BIAS_ACC]].any()


@pytest.mark.parametrize("weight_N", [np.ones(5), np.array([0.1, 1.0, 2.0, 3.0, 0.5])], ids=["plain", "weighted"])
def test_bias_of_negative_sampling_says_no_information(weight_N):
    """With scores b alone, the expected gradient of every seen tag is 0: u(t) c(t) sigmoid(-b) = w q(t) sigmoid(b)."""
    config = make_config(negative_weight=16.0, alpha=0.5)
    matrix = create(config, marginal=MARGINAL * weight_N)
    seen = COUNTS > 0
    q_N = np.sqrt(COUNTS) / np.sqrt(COUNTS).sum()
    np.testing.assert_allclose(np.exp(matrix.log_q_N), q_N, rtol=1e-6)
    sigmoid_N = 1 / (1 + np.exp(-matrix.bias_N.astype(np.float64)))
    pull, push = MARGINAL * weight_N * (1 - sigmoid_N), 16 * q_N * sigmoid_N
    np.testing.assert_allclose(pull[seen], push[seen], rtol=1e-5)


def test_bias_of_sampled_softmax_is_the_log_marginal():
    matrix = create(make_config(objective="sampled-softmax"))
    seen = COUNTS > 0
    np.testing.assert_allclose(np.exp(matrix.bias_N[seen]), MARGINAL[seen], rtol=1e-5)


def test_marginal_defaults_to_the_counts_and_counts_to_uniform():
    config = make_config(objective="sampled-softmax")
    np.testing.assert_allclose(np.exp(create(config, marginal=None).bias_N[[0, 2]]), [0.4, 0.1], rtol=1e-5)
    matrix = create(config, counts=None, marginal=None)
    np.testing.assert_allclose(np.exp(matrix.bias_N), 0.2, rtol=1e-5)
    np.testing.assert_allclose(np.exp(matrix.log_q_N), 0.2, rtol=1e-5)


def correction_of(matrix, config, loss_weight_N=None):
    return log_probability_correction_N(config, matrix.log_q_N, matrix.counts_N, loss_weight_N)


@pytest.mark.parametrize("objective", ["negative-sampling", "sampled-softmax"])
@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_unseen_tags(objective, alpha):
    """Improbable but finite; never drawn; never ranked."""
    config = make_config(objective=objective, alpha=alpha)
    matrix = create(config)
    assert matrix.bias_N[1] == UNSEEN_BIAS
    assert matrix.log_q_N[1] == -np.inf
    correction_N = correction_of(matrix, config)
    assert correction_N.dtype == np.float32
    assert np.isneginf(correction_N).tolist() == (COUNTS == 0).tolist()


def test_scores_become_log_probabilities():
    """At the start, bias plus correction is the log of the marginal u; weights c count as draws from u c."""
    for objective in ("negative-sampling", "sampled-softmax"):
        config = make_config(objective=objective)
        matrix, seen = create(config), COUNTS > 0
        log_p_N = matrix.bias_N + correction_of(matrix, config)
        np.testing.assert_allclose(np.exp(log_p_N[seen]), MARGINAL[seen], rtol=1e-5)
        weight_N = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
        log_p_N = matrix.bias_N + correction_of(matrix, config, weight_N)
        np.testing.assert_allclose(np.exp(log_p_N[seen]), (MARGINAL / weight_N)[seen], rtol=1e-5)


def test_a_tag_without_loss_weight_is_ranked_by_a_finite_number_above_all_rarer_ones():
    for objective in ("negative-sampling", "sampled-softmax"):
        config = make_config(objective=objective)
        counts_N = np.array([1000, 0, 999, 1, 1000])
        matrix = create(config, counts=counts_N, marginal=None)
        weight_N = inverse_frequency_weights(counts_N, 1000)
        plain_N, corrected_N = (correction_of(matrix, config, weight) for weight in (None, weight_N))
        gain_N = np.where(counts_N > 0, corrected_N, 0) - np.where(counts_N > 0, plain_N, 0)
        assert weight_N[[0, 4]].tolist() == [0, 0] and np.isfinite(gain_N).all() and np.isneginf(corrected_N[1])
        assert gain_N[0] == gain_N[4] > gain_N[2] > gain_N[3]
        np.testing.assert_allclose(gain_N[0], np.log(1000), rtol=1e-5)


def test_another_process_maps_the_same_matrix():
    matrix = make_matrix(make_config())
    code = (
        "import sys; from workers.matrix import TagMatrix; m = TagMatrix.attach(int(sys.argv[1])); "
        "m.rows_ND[7] = m.item_tags[:8]; m.bias_N[3] = m.num_items; print(m.fingerprint)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(matrix.fd)],
        pass_fds=[matrix.fd],
        check=True,
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == matrix.fingerprint
    assert matrix.rows_ND[7].tolist() == matrix.item_tags[:8].tolist()
    assert matrix.tag_state_N4[3, BIAS] == matrix.num_items == 12


def test_fingerprints_differ():
    assert create(make_config()).fingerprint != create(make_config()).fingerprint


def test_attach_refuses_other_arrays():
    spec = create(make_config()).arrays.spec
    for wrong in (
        {"rows_NS": spec["rows_NS"]},
        {**spec, "counts_N": spec["counts_N"]._replace(dtype="<i4")},
        {**spec, "rows_NS": spec["rows_NS"]._replace(dtype="<i4")},
    ):
        arrays = SharedArrays.create(wrong)
        with pytest.raises(MatrixMismatch, match="shared memory holds"):
            TagMatrix.attach(arrays.fd)


def num_descriptors():
    gc.collect()  # what earlier tests left to it
    return len(list(Path("/proc/self/fd").iterdir()))


def memory_files():
    gc.collect()
    return sum("memfd" in str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink())


@pytest.mark.parametrize("arguments", [{"marginal": MARGINAL[1:]}, {"seed": -1}, {"counts": np.zeros(5, np.int64)}])
def test_a_matrix_that_cannot_be_made_leaves_no_descriptor(arguments):
    before = memory_files()
    with pytest.raises((DataError, OverflowError)):
        create(make_config(), **arguments)
    assert memory_files() == before


@pytest.mark.parametrize(
    "place", ["memory._collapse", "matrix.dim_of", "objectives.initial_bias_N", "row_fill.fill_rows"]
)
def test_a_matrix_whose_making_is_interrupted_leaves_no_descriptor(place, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    before = memory_files()
    monkeypatch.setattr(f"workers.{place}", interrupt)
    with pytest.raises(KeyboardInterrupt):
        create(make_config())
    assert memory_files() == before


def test_close_leaves_no_descriptor():
    matrix = create(make_config())
    before = num_descriptors()
    other = TagMatrix.attach(matrix.fd)
    other.close()
    other.close()
    assert num_descriptors() == before


def test_a_closed_matrix_gives_its_memory_back_though_somebody_still_has_it():
    matrix = create(make_config())
    inode, counts = os.fstat(matrix.fd).st_ino, matrix.counts_N[2:4]

    def is_mapped():
        lines = Path("/proc/self/maps").read_text().splitlines()
        return any("hybrid-matrix" in line and line.split()[4] == str(inode) for line in lines)

    matrix.close()
    assert counts.tolist() == [10, 5] and is_mapped()
    for read in (lambda: matrix.rows(0, 1), lambda: matrix.bias_N, lambda: matrix.num_items):
        with pytest.raises(MatrixMismatch, match="memory that was closed"):
            read()
    del counts
    gc.collect()
    assert not is_mapped()
    assert (matrix.num_tags, matrix.dim, matrix.fd) == (5, 4, -1)


@pytest.mark.parametrize("dtype", [np.uint32, np.uint64, np.float32])
def test_counts_of_any_type_make_the_same_sampler(dtype):
    """They do not fall with the tags' numbers here, so that they are sorted."""
    expected, matrix = create(make_config()), create(make_config(), counts=COUNTS.astype(dtype))
    assert expected.sampler_members.tolist() == [4, 0, 2, 3] == matrix.sampler_members.tolist()
    np.testing.assert_array_equal(matrix.sampler_groups_G4, expected.sampler_groups_G4)
    np.testing.assert_array_equal(matrix.counts_N, COUNTS)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"counts": np.ones(4, int)}, "counts"),
        ({"counts": np.array([1, 2, -1, 0, 0])}, "counts"),
        ({"counts": np.zeros(5, int)}, "counts"),
        ({"counts": COUNTS / 40}, "whole numbers"),
        ({"counts": np.array([np.nan, 1, 1, 1, 1])}, "whole numbers"),
        ({"counts": np.full(5, 2**63, np.uint64)}, "whole numbers"),
        ({"counts": np.array(["5"] * 5)}, "whole numbers"),
        ({"marginal": np.ones(4)}, "marginal"),
        ({"marginal": np.array([1, 1, -1.0, 1, 1])}, "marginal"),
        ({"marginal": np.array([1, 1, np.nan, 1, 1])}, "marginal"),
        ({"item_offsets": np.array([0, 1])}, "both or none"),
        ({"item_offsets": np.array([0, 3]), "item_tags": np.array([1, 2], np.int32)}, "item_offsets"),
        ({"item_offsets": np.array([0, 2, 1, 3]), "item_tags": np.array([1, 2, 3], np.int32)}, "item_offsets"),
        ({"item_offsets": np.array([0, 3, 1, 2], np.uint64), "item_tags": np.array([1, 2], np.int32)}, "must rise"),
        ({"item_offsets": np.array([0, 2.0]), "item_tags": np.array([1, 2], np.int32)}, "item_offsets: float64"),
        ({"item_offsets": np.array([[0, 2]]), "item_tags": np.array([1, 2], np.int32)}, "item_offsets: int64 of shape"),
        ({"item_offsets": np.zeros(0, int), "item_tags": np.zeros(0, int)}, "must rise"),
        ({"item_offsets": np.array([0, 2]), "item_tags": np.array([1, 2.5])}, "item_tags: float64"),
        ({"item_offsets": np.array([0, 2]), "item_tags": np.array([1, 5], np.int32)}, "item_tags"),
        ({"item_offsets": np.array([0, 2]), "item_tags": np.array([-1, 2], np.int32)}, "item_tags"),
        ({"item_offsets": np.array([0, 2, 4]), "item_tags": np.array([1, 2, 3, 3], np.int32)}, "ascend"),
    ],
)
def test_data_that_do_not_fit(arguments, said):
    with pytest.raises(DataError, match=said):
        create(make_config(), **arguments)


@pytest.mark.parametrize("dtype", [np.uint64, np.uint8, np.int32, np.int64])
def test_true_tags_of_any_whole_type_are_taken(dtype):
    matrix = create(make_config(), item_offsets=np.array([0, 2, 2, 3], dtype), item_tags=np.array([1, 4, 0], dtype))
    assert matrix.item_offsets.tolist() == [0, 2, 2, 3] and matrix.item_tags.tolist() == [1, 4, 0]


@pytest.mark.parametrize(
    ("num_tags", "dim", "row_dtype", "said"),
    [
        (0, 4, "float32", "at least one"),
        (2**31, 4, "float32", "more than 2147483647"),
        (5, 0, "float32", "multiple of 4"),
        (5, 6, "float32", "multiple of 4"),
        (5, 12, "bfloat16", "multiple of 8"),
    ],
)
def test_shapes_that_are_refused(num_tags, dim, row_dtype, said):
    with pytest.raises(DataError, match=said):
        TagMatrix.create(num_tags, dim, config=make_config(row_dtype=row_dtype))


def test_a_matrix_that_does_not_fit_is_refused_before_anything_of_its_tags_is_made(monkeypatch):
    monkeypatch.setattr("workers.memory.available_bytes", lambda: 22 << 30)
    tracemalloc.start()
    try:
        with pytest.raises(MemoryError, match=r"of 15281\.14 GiB is wanted, 22\.00 GiB are available: use fewer"):
            TagMatrix.create(10**9, 4096, config=make_config())
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_bfloat16_rows_take_half_the_memory_and_start_alike():
    exact, rounded = (
        TagMatrix.create(20_000, 64, config=make_config(row_dtype=t), seed=3) for t in ("float32", "bfloat16")
    )
    assert rounded.rows_NS.nbytes * 2 == exact.rows_NS.nbytes
    assert (rounded.num_tags, rounded.dim) == (exact.num_tags, exact.dim)
    np.testing.assert_allclose(rounded.rows_ND, exact.rows_ND, rtol=2**-8)
    assert np.array_equal(rounded.rows(70, 90), rounded.rows_ND[70:90])


def test_rows_do_not_depend_on_the_number_of_threads(monkeypatch):
    filled = []
    for cores in (1, 3):
        monkeypatch.setattr("workers.fresh_rows.available_cores", lambda cores=cores: cores)
        rows_ND = np.full((40_000, 4), np.nan, np.float32)
        fill_rows(rows_ND, 0.5, seed=7)
        filled.append(rows_ND)
    np.testing.assert_array_equal(*filled)
    first, second = filled[0][:16_384], filled[0][16_384:32_768]
    assert not np.array_equal(first, second)  # blocks are not copies of each other
    assert filled[0].std() == pytest.approx(0.5, rel=0.02) and abs(filled[0].mean()) < 0.01


def test_rows_are_drawn_by_as_many_threads_as_there_are_cores(monkeypatch):
    num_cores = 12
    monkeypatch.setattr("workers.fresh_rows.available_cores", lambda: num_cores)
    all_at_work = threading.Barrier(num_cores, timeout=60)
    rows_ND = np.zeros((num_cores * _BLOCK_ROWS, 4), np.float32)
    fill_rows(rows_ND, 0.5, 7, lambda: all_at_work.wait() < 0)  # which is false, once all are there
    assert rows_ND.all(axis=1).mean() > 0.99


def test_what_is_no_matrix_is_let_go_of_again(monkeypatch):
    other = SharedArrays.create({"rows_NS": ArraySpec("<f4", (3, 4))})
    attached, attach = [], SharedArrays.attach
    monkeypatch.setattr(SharedArrays, "attach", lambda fd: attached.append(attach(fd)) or attached[-1])
    with pytest.raises(MatrixMismatch, match="which is no tag matrix"):
        TagMatrix.attach(other.fd)
    with pytest.raises(MatrixMismatch, match="closed"):
        attached[0]["rows_NS"]


def test_a_matrix_filled_in_the_background_is_the_same_and_says_when(monkeypatch):
    config = make_config()
    expected = TagMatrix.create(20_000, 8, config=config, seed=3)
    expected.wait_filled(limit_s=0.0)
    may_go_on = threading.Event()

    def late(*args):
        assert may_go_on.wait(60)
        fill_rows(*args)

    monkeypatch.setattr("workers.row_fill.fill_rows", late)
    matrix = TagMatrix.create(20_000, 8, config=config, seed=3, in_background=True)
    other = TagMatrix.attach(matrix.fd)  # as a worker sees it
    with pytest.raises(MatrixMismatch, match="has not filled its rows"):
        other.wait_filled(limit_s=0.0)
    may_go_on.set()
    other.wait_filled(limit_s=60.0)
    np.testing.assert_array_equal(other.rows_ND, expected.rows_ND)


def test_a_large_matrix_may_take_longer_to_fill(monkeypatch):
    matrix, now_s = TagMatrix.allocate(5, 4, config=make_config()), itertools.count()
    monkeypatch.setattr("workers.row_fill.time", SimpleNamespace(monotonic=lambda: next(now_s), sleep=lambda s: None))
    monkeypatch.setattr("workers.matrix._FILL_BYTES_PER_S", matrix.nbytes / 50)
    with pytest.raises(MatrixMismatch, match="has not filled its rows within 60 s"):
        matrix.wait_filled(limit_s=10.0)
    assert next(now_s) > 60


def test_a_filling_that_fails_is_told_at_once_and_by_its_cause(monkeypatch):
    def fail(*args):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("workers.row_fill.fill_rows", fail)
    matrix = TagMatrix.create(100, 8, config=make_config(), in_background=True)
    other = TagMatrix.attach(matrix.fd)
    start_s = time.monotonic()
    with pytest.raises(MatrixMismatch, match=r"could not fill its rows.*can't start new thread"):
        matrix.wait_filled(limit_s=300.0)
    with pytest.raises(MatrixMismatch, match="could not fill its rows"):  # a worker does not know why
        other.wait_filled(limit_s=300.0)
    assert time.monotonic() - start_s < 60
    with pytest.raises(RuntimeError, match="can't start new thread"):
        TagMatrix.create(100, 8, config=make_config())


@pytest.mark.parametrize("row_dtype", ["float32", "bfloat16"])
def test_fresh_rows_are_those_of_the_slow_twin(row_dtype):
    """Over two blocks, so that the second one's numbers are seen to follow the first one's."""
    num_tags, dim, deviation = 4100, 8, 0.25
    matrix = TagMatrix.create(
        num_tags, dim, config=make_config(row_dtype=row_dtype, init_scale=deviation * dim**0.5), seed=9
    )
    expected = fresh_rows(num_tags, dim, deviation, int(stream_key(9, 0, 0, FRESH_ROWS)))
    tolerance = 1e-6 if row_dtype == "float32" else 1 / 256
    np.testing.assert_allclose(matrix.rows(0, num_tags), expected, rtol=tolerance, atol=1e-9)
    assert np.abs(expected).max() <= 3**0.5 * deviation


def test_closing_a_matrix_ends_its_filling(monkeypatch):
    config = make_config()
    stopped = threading.Event()

    def endless(rows_ND, deviation, seed, should_stop):
        while not should_stop():
            rows_ND[0] = 1.0
        stopped.set()

    monkeypatch.setattr("workers.row_fill.fill_rows", endless)
    matrix = TagMatrix.create(100, 8, config=config, in_background=True)
    other = TagMatrix.attach(matrix.fd)
    matrix.close()
    assert stopped.wait(60)
    with pytest.raises(MatrixMismatch):
        other.wait_filled(limit_s=0.0)
