"""Tiles of products and transposed blocks, against NumPy, and what they leave alone."""

import os
import subprocess
import sys

import numpy as np
import pytest
from wide_cases import written_down

from workers import tiles
from workers.jit import JIT_ENABLED, kernel
from workers.prepared_chunk import Loss
from workers.scratch import Scratch
from workers.shared_plan import shared_plan
from workers.shared_products import feature_gradients, row_gradients, score_rows, whole_blocks, whole_tiles
from workers.shared_work import WorkSize, cut_work, shared_work
from workers.slots import MASKED
from workers.tags import Tags
from workers.tiles import TILE_ROWS, add_tile, add_tile_fetching, put_transposed
from workers.vectors import values_from, zeros
from workers.widths import BLOCK, vector_widths

F = np.float32
_EIGHT, _SIXTEEN = 8, 16


@kernel
def _tile(out, out_stride, factors, row_stride, step, columns, column_stride, depth, adds, num_rows):
    tile, a, b = values_from(out, 0), values_from(factors, 0), values_from(columns, 0)
    add_tile(tile, out_stride, a, row_stride, step, b, column_stride, depth, adds, num_rows, zeros(_SIXTEEN))


@kernel
def _narrow_tile(out, out_stride, factors, row_stride, step, columns, column_stride, depth, adds, num_rows):
    tile, a, b = values_from(out, 0), values_from(factors, 0), values_from(columns, 0)
    add_tile(tile, out_stride, a, row_stride, step, b, column_stride, depth, adds, num_rows, zeros(_EIGHT))


@kernel
def _fetching_tile(out, factors, columns, depth, rows_NW, words, ids, num_lines):
    tile, a, b = values_from(out, 0), values_from(factors, 0), values_from(columns, 0)
    add_tile_fetching(
        tile, 32, a, depth, 1, b, 32, depth, False, TILE_ROWS, zeros(_SIXTEEN),
        rows_NW, words, values_from(ids, 0), num_lines,
    )  # fmt: skip


@kernel
def _transpose(source, stride, num_rows, target, target_stride):
    put_transposed(values_from(source, 0), stride, num_rows, values_from(target, 0), target_stride)


def _scores(D):
    wide, narrow = vector_widths(D)

    @kernel
    def scores(tags, loss, features_BD, plan, work):
        score_rows(tags, loss, features_BD, plan, work, D, D, (zeros(wide), zeros(narrow)))

    return scores


@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize("num_rows", [1, 3, 5, 6, 7, TILE_ROWS, TILE_ROWS + 1])
@pytest.mark.parametrize(("tile", "width"), [(_tile, 32), (_narrow_tile, 16)])
def test_a_tile_is_the_product_and_nothing_beside_it_changes(tile, width, num_rows, adds):
    """Rows beyond `num_rows`, and columns between the tile's, belong to others."""
    rng = np.random.default_rng(num_rows)
    depth, out_stride = 7, width + 3
    factors, columns = F(rng.normal(size=(TILE_ROWS, depth))), F(rng.normal(size=(depth, width + 1)))
    before = F(rng.normal(size=(TILE_ROWS, out_stride)))
    out = before.copy()
    tile(
        out.reshape(-1),
        out_stride,
        factors.reshape(-1),
        depth,
        1,
        columns.reshape(-1),
        width + 1,
        depth,
        adds,
        num_rows,
    )
    rows = min(num_rows, TILE_ROWS)
    expected = factors[:rows].astype(np.float64) @ columns[:, :width] + before[:rows, :width] * adds
    np.testing.assert_allclose(out[:rows, :width], expected, atol=1e-5)
    assert np.array_equal(out[:rows, width:], before[:rows, width:])
    assert np.array_equal(out[rows:], before[rows:])


def test_factors_may_lie_along_either_axis():
    rng = np.random.default_rng(1)
    factors, columns = F(rng.normal(size=(9, TILE_ROWS))), F(rng.normal(size=(9, 32)))
    out = np.zeros((TILE_ROWS, 32), F)
    _tile(out.reshape(-1), 32, factors.reshape(-1), 1, TILE_ROWS, columns.reshape(-1), 32, 9, False, TILE_ROWS)
    np.testing.assert_allclose(out, factors.T.astype(np.float64) @ columns, atol=1e-5)


def test_no_depth_is_a_product_of_zeros():
    out, nothing = np.ones((TILE_ROWS, 32), F), np.zeros(TILE_ROWS, F)
    _tile(out.reshape(-1), 32, nothing, 0, 1, np.zeros(32, F), 32, 0, False, TILE_ROWS)
    assert not out.any()


@pytest.mark.parametrize("num_lines", [0, 1, 5, 12])
def test_fetching_changes_no_value(num_lines):
    rng = np.random.default_rng(2)
    factors, columns = F(rng.normal(size=(TILE_ROWS, 12))), F(rng.normal(size=(12, 32)))
    rows_NW, ids = F(rng.normal(size=(50, 48))), np.array([49, 0, 7, 7], np.int32)  # three lines each
    out, plain = np.zeros((TILE_ROWS, 32), F), np.zeros((TILE_ROWS, 32), F)
    _fetching_tile(out.reshape(-1), factors.reshape(-1), columns.reshape(-1), 12, rows_NW, 48, ids, num_lines)
    _tile(plain.reshape(-1), 32, factors.reshape(-1), 12, 1, columns.reshape(-1), 32, 12, False, TILE_ROWS)
    assert np.array_equal(out, plain)


@pytest.mark.parametrize("num_rows", [1, 2, 15, BLOCK, BLOCK + 1])
def test_a_block_is_transposed_and_its_last_row_stands_for_those_missing(num_rows):
    rng = np.random.default_rng(3)
    source, target = F(rng.normal(size=(BLOCK, 19))), np.zeros((BLOCK, 21), F)
    _transpose(source.reshape(-1), 19, num_rows, target.reshape(-1), 21)
    rows = np.minimum(np.arange(BLOCK), num_rows - 1)
    assert np.array_equal(target[:, :BLOCK], source[rows, :BLOCK].T)
    assert not target[:, BLOCK:].any()


@pytest.mark.parametrize(
    ("B", "K", "D"), [(1, 1, 4), (5, 3, 60), (16, 9, 60), (17, 24, 64), (33, 8, 64), (48, 700, 60), (70, 300, 60)]
)
def test_the_three_products_are_those_of_numpy(B, K, D):
    """Whatever is left over of blocks and tiles: examples, negatives, columns."""
    rng = np.random.default_rng(B * K)
    X = whole_blocks(B)
    rows_ND, state_N4 = F(rng.normal(size=(K + 5, D))), F(rng.normal(size=(K + 5, 4)))
    ids_K, features_BD = rng.permutation(K + 5)[:K].astype(np.int32), F(rng.normal(size=(B, D)))
    size = WorkSize(X, positives=0, copies=whole_tiles(K), scores=whole_tiles(K) * X)
    memory, plan = shared_work(size, D, Scratch()), shared_plan(B, K, 0, Scratch())
    for array in memory:
        array.fill(np.nan if array.dtype == F else 1)
    work = written_down(cut_work)(memory, B, 0, K, K, X)
    plan = plan._replace(ids_S=ids_K, multiplicity_K=np.ones(K, F))
    _scores(D)(Tags(rows_ND, state_N4, np.zeros(0, np.uint32)), Loss(0, F(3), K), features_BD, plan, work)
    rows_KD, scores_KX = work.rows_KD, work.scores_KX
    assert np.array_equal(rows_KD, rows_ND[ids_K])
    np.testing.assert_allclose(scores_KX[:, :B], rows_KD.astype(np.float64) @ features_BD.T, atol=1e-4)
    assert (scores_KX[:, B:] == MASKED).all()
    grads_KX = np.full((whole_tiles(K), X), np.nan, F)[:K]
    grads_KX[:] = rng.normal(size=(K, X))
    exact_KB = grads_KX[:, :B].astype(np.float64)
    beyond_BD, beyond_KD = np.full((B + 1, D), F(7)), np.full((K + 1, D), F(7))
    feature_gradients(grads_KX, rows_KD, beyond_BD[:B], work.stripe, D)
    row_gradients(grads_KX, features_BD, work.packed, beyond_KD[:K], D)
    np.testing.assert_allclose(beyond_BD[:B], exact_KB.T @ rows_KD, atol=1e-3)
    np.testing.assert_allclose(beyond_KD[:K], exact_KB @ features_BD, atol=1e-3)
    assert (beyond_BD[B] == 7).all() and (beyond_KD[K] == 7).all()


@pytest.mark.parametrize("B", [16, 32, 64, 176])
def test_what_tiles_of_twelve_rows_read_behind_the_scores_is_there(B):
    """For the feature gradient a tile's rows are columns of scores: there are whole blocks of them, not whole tiles."""
    X, K = whole_blocks(B), 12
    last_read = (K - 1) * X + -(-B // 12) * 12
    memory = shared_work(WorkSize(X, positives=0, copies=K, scores=K * X), 8, Scratch())
    assert memory.scores_KX.size >= last_read > K * X


@pytest.mark.skipif(not JIT_ENABLED, reason="there are no parts without compilation")
@pytest.mark.skipif(JIT_ENABLED and tiles._PART_ROWS < TILE_ROWS, reason="here the other tests are of parts already")
def test_tiles_in_parts_for_fewer_registers_are_the_same(tmp_path):
    """As on a machine without AVX-512: this file's main tests once more, in a process that does without."""
    from llvmlite import binding

    has = {name: has and not name.startswith("avx512") for name, has in binding.get_host_cpu_features().items()}
    features = ",".join(f"{'+' if has[name] else '-'}{name}" for name in has)
    run = f"""
import sys, pytest
from workers import tiles
assert (tiles._PART_ROWS, tiles._PART_VECTORS) == (6, 1)
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-o", "addopts=", "-k", "nothing_beside or numpy", {__file__!r}]))
"""
    environment = os.environ | {"NUMBA_CPU_FEATURES": features, "HYBRID_CACHE": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", run], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
