"""Matrices on disk: everything comes back, and damage is named."""

import dataclasses
import gc
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from wide_cases import make_chunk, make_config, make_matrix, random_features

from workers import matrix_io
from workers.engine import WideEngine
from workers.errors import MatrixMismatch
from workers.matrix_io import load_matrix, open_rows, save_matrix

CONFIG = make_config()


def memory_files():
    """How many files of shared memory this process has open, once what earlier tests left in cycles is collected."""
    gc.collect()
    return sum("memfd" in str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink())


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """A matrix of 60 rows in shards of 16."""
    monkeypatch.setattr(matrix_io, "SHARD_BYTES", 16 * 8 * 4 + 128)
    matrix = make_matrix(CONFIG)
    matrix.counts_N[5] = 0
    save_matrix(matrix, tmp_path / "matrix", CONFIG)
    return matrix, tmp_path / "matrix"


def test_everything_comes_back(saved):
    matrix, folder = saved
    loaded = load_matrix(folder, CONFIG, item_offsets=matrix.item_offsets, item_tags=matrix.item_tags)
    for name in ("rows_ND", "counts_N", "item_offsets", "item_tags"):
        assert np.array_equal(getattr(loaded, name), getattr(matrix, name))
    assert np.array_equal(loaded.tag_state_N4[:, :3], matrix.tag_state_N4[:, :3])
    assert loaded.log_q_N[5] == -np.inf


def test_a_load_tells_how_far_it_is_and_can_be_ended(saved):
    """The kernel gives the memory of a load that was ended back at once."""
    told, before = [], memory_files()
    load_matrix(saved[1], CONFIG, tell=lambda done, total: told.append((done, total))).close()
    row_bytes = 8 * 4
    assert told == [(rows * row_bytes, 60 * row_bytes) for rows in (16, 32, 48, 60)]

    def lose_patience(done, total):
        assert memory_files() > before
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_matrix(saved[1], CONFIG, tell=lose_patience)
    assert memory_files() == before


def test_training_goes_on_as_if_nothing_had_happened(tmp_path):
    matrix = make_matrix(CONFIG)
    save_matrix(matrix, tmp_path / "m", CONFIG)
    loaded = load_matrix(tmp_path / "m", CONFIG)
    assert np.array_equal(loaded.sampler_groups_G4, matrix.sampler_groups_G4)
    assert np.array_equal(loaded.tag_state_N4, matrix.tag_state_N4)
    chunk = make_chunk(random_features(), [[1], [2], [3], [4], [5]], [[1], [2], [3], [4], [5]])
    for m in (matrix, loaded):
        WideEngine(m, CONFIG).apply(chunk)
    assert np.array_equal(loaded.rows_ND, matrix.rows_ND)
    assert np.array_equal(loaded.tag_state_N4, matrix.tag_state_N4)


def test_rows_are_read_across_shards(saved):
    matrix, folder = saved
    rows = open_rows(folder)
    assert (rows.num_tags, rows.dim) == (60, 8)
    assert len(list(rows.shards())) == 4
    for start, stop in [(0, 60), (3, 9), (15, 17), (16, 32), (40, 60), (59, 60), (7, 7)]:
        assert np.array_equal(rows.rows(start, stop), matrix.rows_ND[start:stop])
    assert not rows.rows(3, 9).flags.writeable
    assert np.array_equal(rows.bias_N, matrix.bias_N)
    assert np.array_equal(rows.log_q_N, matrix.log_q_N)
    assert np.array_equal(rows.counts_N, matrix.counts_N)
    assert rows.config == CONFIG


@pytest.mark.parametrize("name", ["rows-00000.npy", "rows-00003.npy", "tag_state.npy", "counts.npy", "meta.json"])
def test_missing_file(saved, name):
    (saved[1] / name).unlink()
    with pytest.raises(MatrixMismatch, match=name):
        open_rows(saved[1])


@pytest.mark.parametrize("name", ["rows-00002.npy", "tag_state.npy", "counts.npy", "meta.json"])
def test_file_that_is_cut_off(saved, name):
    path = saved[1] / name
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(MatrixMismatch, match=name):
        open_rows(saved[1])


@pytest.mark.parametrize("name", ["rows-00001.npy", "tag_state.npy", "counts.npy"])
def test_changed_byte(saved, name):
    path = saved[1] / name
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(MatrixMismatch, match=f"{name} was changed"):
        load_matrix(saved[1], CONFIG)


@pytest.mark.parametrize(
    "change",
    [
        {"format_version": 2},
        {"num_tags": 61},
        {"dim": 4},
        {"files": {}},
        {"head": {"objective": "x"}},
        {"rows_per_shard": 0},
        {"rows_per_shard": -1},
        {"num_tags": float("inf")},
        {"head": []},
        {"head": None},
    ],
    ids=str,
)
def test_meta_that_does_not_fit(saved, change):
    path = saved[1] / "meta.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(MatrixMismatch, match=re.escape(str(saved[1]))):
        open_rows(saved[1])


def test_a_file_without_a_checksum(saved):
    path = saved[1] / "meta.json"
    meta = json.loads(path.read_text())
    del meta["files"]["rows-00001.npy"]["sha256"]
    path.write_text(json.dumps(meta))
    with pytest.raises(MatrixMismatch, match="sha256"):
        open_rows(saved[1])


@pytest.mark.parametrize(
    ("name", "other"), [("objective", "sampled-softmax"), ("alpha", 0.5), ("negative_weight", 7.0)]
)
def test_settings_that_change_what_a_bias_means_must_be_the_saved_ones(saved, name, other):
    with pytest.raises(MatrixMismatch, match=f"saved with {name} .* to be loaded with {other!r}"):
        load_matrix(saved[1], dataclasses.replace(CONFIG, **{name: other}))


def test_a_save_tells_of_each_piece_of_each_array(tmp_path, monkeypatch):
    """Rows, state and counts: whoever waits hears from a slow disk, and no array is copied whole."""
    monkeypatch.setattr(matrix_io, "SHARD_BYTES", 16 * 8 * 4 + 128)
    matrix, told = make_matrix(CONFIG), []
    save_matrix(matrix, tmp_path / "matrix", CONFIG, lambda done, total: told.append((done, total)))
    done, total = [0, *(d for d, _ in told)], 60 * (8 * 4 + 16 + 8)
    assert [b - a for a, b in itertools.pairwise(done)] == [512, 512, 512, 384, 512, 448, 480]
    assert {of for _, of in told} == {done[-1]} == {total}


def test_pickles_are_not_read(saved):
    np.save(saved[1] / "counts.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(MatrixMismatch, match=r"counts\.npy"):
        open_rows(saved[1])
