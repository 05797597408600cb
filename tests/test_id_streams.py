"""The ids that benchmarks update, and the ceiling that they are compared with."""

import ctypes
import shutil

import numpy as np
import pytest

from benchmarks import ceiling
from benchmarks.ceiling import Ceiling
from benchmarks.engine_work import PRIVATE, make_chunks, make_matrix, work_on
from benchmarks.id_streams import make_stream, zipf_counts, zipf_ids
from workers.chunk import check_chunk
from workers.sampler import sampling_probabilities

D = 32
IDS = np.array([3, 0, 3, 9, 9, 9, 1], np.int32)
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


@pytest.mark.parametrize("exponent", [1.0, 0.75])
def test_ids_follow_zipf(exponent):
    num_tags, draws = 50, 200_000
    ids = zipf_ids(np.random.default_rng(0), exponent, (draws,), num_tags)
    assert ids.dtype == np.int32 and ids.min() == 0 and ids.max() == num_tags - 1
    edges = np.arange(1, num_tags + 2, dtype=np.float64)
    integral = np.log(edges) if exponent == 1.0 else edges ** (1 - exponent)
    expected = draws * np.diff(integral) / (integral[-1] - integral[0])
    chi_square = ((np.bincount(ids, minlength=num_tags) - expected) ** 2 / expected).sum()
    assert chi_square < 90  # 49 degrees of freedom: p = 0.0003


def test_a_stream_is_the_same_for_equal_seeds():
    one, same, other = (make_stream(1000, num_batches=3, seed=seed) for seed in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(one.batches, same.batches, strict=True))
    assert (one.batches[0] != other.batches[0]).any()
    assert one.batches[0].shape == (256, 25) and one.ids_per_batch == 6400
    assert "order of frequency" in one.description


def test_hot_rows_are_the_only_ones_touched():
    stream = make_stream(1000, num_batches=4, hot_rows=10)
    assert set(np.unique(stream.batches)) == set(range(10)) and "10 rows" in stream.description
    with_few = make_matrix(1000, PRIVATE, dim=8, hot_rows=10)
    drawn = np.isfinite(with_few.log_q_N)
    assert drawn[:10].all() and not drawn[10:].any()
    with_few.close()


def test_the_sampler_draws_negatives_by_the_law_of_the_stream():
    q_N = sampling_probabilities(zipf_counts(1000), 1.0)
    expected_N = np.arange(1, 1001) ** -0.75
    np.testing.assert_allclose(q_N, expected_N / expected_N.sum(), rtol=0.006)


def test_chunks_of_a_stream_are_valid_and_their_steps_count_pairs():
    matrix = make_matrix(300, PRIVATE, dim=8)
    for chunk in make_chunks(make_stream(300, num_batches=2), PRIVATE, 8, seed=3):
        check_chunk(chunk, num_tags=300, dim=8, num_items=0, private_negatives=True)
    work = work_on(matrix)
    before = matrix.rows_ND.copy()
    assert work.step() == 256 * 25
    assert (matrix.rows_ND != before).any()
    matrix.close()


def rows_of(dtype):
    rows_ND = np.arange(10 * D, dtype=np.float32).reshape(10, D) % 64
    return rows_ND if dtype == np.float32 else (rows_ND.view(np.uint32) >> 16).astype(np.uint16)


def as_float32(rows_ND):
    return rows_ND if rows_ND.dtype == np.float32 else (rows_ND.astype(np.uint32) << 16).view(np.float32)


def rewritten(dtype, a, b):
    """The oracle: the ids one after the other."""
    rows_ND = as_float32(rows_of(dtype)).copy()
    for i in IDS:
        rows_ND[i] = rows_ND[i] * a + b
    return rows_ND


@needs_compiler
@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
@pytest.mark.parametrize("ahead", [1, 4, 100])
@pytest.mark.parametrize("way", range(len(ceiling.WAYS)))
def test_the_c_program_rewrites_every_row_of_the_stream(dtype, ahead, way):
    library = ceiling._load("cc", D)
    function = library.rewrite_float32 if dtype == np.float32 else library.rewrite_bfloat16
    rows_ND = rows_of(dtype)
    pointers = (ctypes.c_void_p(rows_ND.ctypes.data), ctypes.c_void_p(IDS.ctypes.data))
    numbers = ctypes.c_int64(len(IDS)), ctypes.c_int64(ahead), ctypes.c_int(way)
    function(*pointers, *numbers, ctypes.c_float(2.0), ctypes.c_float(4.0))
    np.testing.assert_array_equal(as_float32(rows_ND), rewritten(dtype, 2.0, 4.0))


@needs_compiler
def test_the_c_program_is_compiled_once_and_works_where_no_folder_can_keep_it(tmp_path, monkeypatch):
    library = ceiling._compiled("cc", D, tmp_path)
    made = library.stat().st_mtime_ns
    assert ceiling._compiled("cc", D, tmp_path) == library and library.stat().st_mtime_ns == made
    assert ceiling._compiled("cc", 2 * D, tmp_path) != library and len(list(tmp_path.iterdir())) == 2
    monkeypatch.setattr(ceiling, "cache_directory", lambda: None)
    assert ceiling._load("cc", D).rewrite_float32


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_the_numba_copy_does_the_same(dtype):
    make = ceiling._make_float32 if dtype == np.float32 else ceiling._make_bfloat16
    rows_ND = rows_of(dtype)
    make(D)(rows_ND, IDS, 2, np.float32(2.0), np.float32(4.0))
    np.testing.assert_array_equal(as_float32(rows_ND), rewritten(dtype, 2.0, 4.0))


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_the_ceiling_leaves_rows_as_they_were(dtype):
    rows_ND = rows_of(dtype)
    bare = Ceiling(rows_ND, [IDS, IDS[:3]])
    assert [bare.step() for _ in range(3)] == [7.0, 3.0, 7.0]
    np.testing.assert_array_equal(rows_ND, rows_of(dtype))
    assert f", {bare.ahead} rows ahead to be " in bare.program and bare.ahead in ceiling.AHEAD_TRIED


def test_without_a_working_compiler_it_says_that_numba_did_it(monkeypatch):
    ceiling._program.cache_clear()
    monkeypatch.setenv("CC", "false")
    assert "Numba" in Ceiling(rows_of(np.float32), [IDS]).program
    ceiling._program.cache_clear()
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", "")
    assert "no C compiler" in Ceiling(rows_of(np.float32), [IDS]).program
    ceiling._program.cache_clear()


def test_a_matrix_of_another_type_is_refused():
    with pytest.raises(TypeError, match="float64"):
        Ceiling(np.zeros((4, D)), [IDS])
