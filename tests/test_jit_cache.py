"""Compiled kernels: the disk cache is hit by a second process, and plain Python gives the same numbers."""

import errno
import os
import re
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from workers.jit import JIT_ENABLED, cache_directory, remove_unused
from workers.kernel_files import warn_of_no_cache

TESTS = Path(__file__).parent
SERVE = """
import dataclasses, itertools, sys
import numba.core.dispatcher
if "second" in sys.argv:
    def refuse(*args, **kwargs):
        raise AssertionError("compiled again: " + repr(args[2].__qualname__) + " " + repr(args[3]))
    numba.core.dispatcher.compiler.compile_extra = refuse
import numpy as np
from wide_cases import make_chunk, make_config, make_matrix, random_features
from workers.engine import WideEngine
from workers.positives import draw_positives
chunk = make_chunk(random_features(), [[1], [], [2, 3], [4], [5]], [[1], [], [2, 3], [4], [5]])
frozen = np.frombuffer(b"x" + chunk.features_BD.tobytes(), np.float32, offset=1).reshape(5, 8)
by_item = dataclasses.replace(chunk, items_B=np.arange(5), true_ids=None, true_offsets=None)
forms = [("float32", 0.0), ("float32", 0.1), ("bfloat16", 0.0)]
for private, optimizer, (dtype, decay) in itertools.product((False, True), ("sgd", "adagrad"), forms):
    choices = {"private_negatives": private, "row_optimizer": optimizer, "row_dtype": dtype, "weight_decay": decay}
    config = make_config(**choices)
    matrix = make_matrix(config)
    WideEngine(matrix, config).warm_up()
    if "second" in sys.argv:
        for objective in ("negative-sampling", "sampled-softmax"):
            engine = WideEngine(matrix, make_config(max_norm=1.0, objective=objective, **choices))
            engine.apply(chunk)
            engine.apply(dataclasses.replace(by_item, update=False, features_BD=frozen))
            engine.apply(dataclasses.replace(chunk, pos_weights=np.ones(5, np.float32), num_negatives=300))
            engine.apply(make_chunk(random_features(1), [[]], [[]]))
draw_positives(matrix.item_offsets, matrix.item_tags, np.arange(3), 2, np.uint64(1))
matrix.item_tags.flags.writeable = "second" not in sys.argv
draw_positives(matrix.item_offsets, matrix.item_tags, np.arange(3), 2, np.uint64(1))
"""


def run_python(*arguments: str, **environment: str) -> str:
    """What a fresh interpreter prints, which finds the project and the tests' helpers; it must end well."""
    path = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": path, **environment},
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(not JIT_ENABLED, reason="nothing is compiled")
def test_second_process_compiles_nothing():
    """In the cache that all tests share, so that what is compiled for this one serves others."""
    assert run_python("-c", SERVE, "first") == ""
    assert run_python("-c", SERVE, "second") == ""


@pytest.mark.slow
@pytest.mark.skipif(not JIT_ENABLED, reason="nothing is compiled")
def test_warm_up_fills_an_empty_cache_with_all_that_chunks_of_every_kind_need(tmp_path):
    run_python("-c", SERVE, "first", HYBRID_CACHE=str(tmp_path))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb?")}
    assert before
    run_python("-c", SERVE, "second", HYBRID_CACHE=str(tmp_path))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb?")} == before


@pytest.mark.slow
@pytest.mark.skipif(not JIT_ENABLED, reason="this is that run")
def test_plain_python_gives_the_same_numbers():
    """The kernels' own tests once more, with every kernel as the Python function that is written down."""
    files = [
        "arithmetic",
        "bfloat16",
        "engine",
        "hot_rows",
        "kernel_shared",
        "shared_losses",
        "shared_plan",
        "kernel_private",
        "private_plan",
        "matching",
        "chunk",
        "scratch",
        "objectives",
        "row_blocks",
        "tiles",
        "sampler",
        "positives",
        "counters",
    ]
    names = [str(TESTS / f"test_{name}.py") for name in files]
    printed = run_python("-m", "pytest", "-p", "no:cacheprovider", "-o", "addopts=", *names, NUMBA_DISABLE_JIT="1")
    assert re.search(r"\b\d{2,} passed", printed), printed  # collecting nothing would end well, too


@pytest.mark.skipif(not JIT_ENABLED, reason="nothing is cached")
def test_kernels_that_find_no_room_on_disk_run_all_the_same(tmp_path):
    """Every file that the process writes is full at its first byte."""
    serve = """
import resource
import numpy as np
import workers.jit
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
from workers.admission import chunks_applied
from workers.slots import is_among
print(chunks_applied(np.ones(3, np.int64)), is_among(np.arange(3, dtype=np.int32), 0, 3, 2))
"""
    path = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    environment = {**os.environ, "PYTHONPATH": path, "HYBRID_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", serve], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["3", "True"]
    assert done.stderr.count("could not be cached") == 1, done.stderr


def test_cache_belongs_to_us_alone():
    directory = cache_directory()
    assert directory is not None
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_kernels_that_nobody_used_for_long_are_removed_when_sources_are_new(tmp_path):
    folder = tmp_path / "numba"
    unused, used, foreign = (folder / name for name in ("0" * 16, "1" * 16, "not-of-ours"))
    for directory in (unused, used, foreign):
        (directory / "inner").mkdir(parents=True)
    (folder / ("2" * 16)).symlink_to(foreign)
    for directory in (unused, foreign):
        os.utime(directory, times=(0, 0))
    os.utime(folder / ("2" * 16), times=(0, 0), follow_symlinks=False)
    use = "from workers.jit import cache_directory; print(cache_directory())"
    fresh = Path(run_python("-c", use, HYBRID_CACHE=str(tmp_path)).strip())
    assert set(folder.iterdir()) == {used, foreign, folder / ("2" * 16), fresh}
    os.utime(fresh, times=(0, 0))
    run_python("-c", use, HYBRID_CACHE=str(tmp_path))
    assert fresh.stat().st_mtime > 0, "its use was noted"


def test_kernels_of_other_users_stay(tmp_path, monkeypatch):
    (tmp_path / ("0" * 16)).mkdir()
    os.utime(tmp_path / ("0" * 16), times=(0, 0))
    another = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: another)
    remove_unused(tmp_path)
    remove_unused(tmp_path / "missing")
    assert (tmp_path / ("0" * 16)).is_dir()


def test_the_home_in_the_name_of_the_cache_is_the_users(tmp_path):
    use = "from workers.jit import cache_directory; print(cache_directory())"
    place = Path(run_python("-c", use, HYBRID_CACHE="~/my cache", HOME=str(tmp_path)).strip())
    assert place.parent == tmp_path / "my cache" / "numba" and place.is_dir()


def test_no_cache_where_none_can_be_made(tmp_path):
    """A home that cannot be written to costs time, not the run."""
    (tmp_path / "file").write_text("")
    code = """
import numpy as np
from workers.counters import random_bits
from workers.jit import cache_directory
assert cache_directory() is None
assert random_bits(np.uint64(1234567), np.uint64(0)) == 6457827717110365317
"""
    run_python("-c", code, HYBRID_CACHE=str(tmp_path / "file"))


def test_no_cache_where_no_file_can_be_made(tmp_path, monkeypatch, caplog):
    """The directory is there, but the user's quota of files is used up."""

    def refuse(**arguments):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setenv("HYBRID_CACHE", str(tmp_path))
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    warn_of_no_cache.cache_clear()
    assert cache_directory.__wrapped__() is None
    assert "not cached" in caplog.text and "Disk quota exceeded" in caplog.text
