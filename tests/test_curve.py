"""One training of a benchmark: what its budget counts, and what it leaves alone."""

import ctypes
import subprocess
import sys

import numpy as np
import pytest
import torch
from tiny_data import write_photos

from benchmarks.contender import RIVALS, TaggedItems, open_contender
from benchmarks.curve import Curve, run_curve
from benchmarks.curve_process import run_in_process
from benchmarks.curve_settings import CurveSettings
from benchmarks.environment import trunk_environment
from benchmarks.rivals.tuned_memory import MEMORY_TUNING
from hybrid.data.prepare import prepare
from hybrid.upload import arrived
from launch.child import TRUNK_MEMORY
from launch.config import DataConfig

KEPT_AFTER_FREE = """
import ctypes, resource
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
before, block = resident(), libc.malloc(1 << 26)
ctypes.memset(block, 1, 1 << 26)
libc.free(block)
print(resident() - before)
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_every_contender_keeps_freed_memory_and_asks_for_huge_pages(workers):
    environment = trunk_environment(workers, "cpu")
    assert environment["THP_MEM_ALLOC_ENABLE"] == "1"
    if not hasattr(ctypes.CDLL(None), "mallopt"):
        pytest.skip("not glibc")
    untuned = {name: value for name, value in environment.items() if name not in MEMORY_TUNING}
    kept = [
        int(subprocess.check_output([sys.executable, "-c", KEPT_AFTER_FREE], env=env)) for env in (environment, untuned)
    ]
    assert kept[0] > 1 << 25 > kept[1]


def test_a_training_is_started_in_that_environment(monkeypatch):
    given = {}

    def run(command, *, env, **_):
        given.update(env)
        return subprocess.CompletedProcess(command, 0, stdout="{}")

    monkeypatch.setattr(subprocess, "run", run)
    assert run_in_process(CurveSettings(kind="dense", seconds=1.0)) == {}
    assert given.items() >= MEMORY_TUNING.items()


@pytest.fixture(scope="module")
def photos_view(tmp_path_factory):
    folder = tmp_path_factory.mktemp("curve")
    write_photos(folder / "photos", 12)
    return prepare(DataConfig(source=f"folder:{folder / 'photos'}", cache_dir=str(folder / "cache")))


@pytest.mark.parametrize("kind", RIVALS)
def test_every_rival_trains_by_the_steps_of_a_run(kind, photos_view):
    """What `Trainer.step` asks of a pipeline and a head, those of rivals have, too."""
    settings = CurveSettings(kind=kind, epochs=8, device="cpu")
    with open_contender(settings, TaggedItems.of(photos_view)) as (trainer, ranking, budget):
        curve = Curve(settings, photos_view, trainer, ranking, budget)
        images, items = next(arrived(curve._batches(epoch=0)))
        weights, rows = [p.detach().clone() for p in trainer.trunk.parameters()], ranking()[0].copy()
        with budget.running():
            reports = [trainer.step(images, items) for _ in range(2)]
        assert all(np.isfinite(report.loss) for report in reports) and trainer.progress.step == 2
        assert not np.array_equal(ranking()[0], rows)
        assert not all(torch.equal(p, before) for p, before in zip(trainer.trunk.parameters(), weights, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["hybrid", "sampled"])
def test_a_curve_spends_its_budget_on_training_alone(kind, tmp_path, monkeypatch):
    write_photos(tmp_path / "photos", 80)
    view = prepare(DataConfig(source=f"folder:{tmp_path / 'photos'}", cache_dir=str(tmp_path / "cache")))
    monkeypatch.setattr("benchmarks.curve.prepare", lambda config: view)
    real_warm_up = Curve._warm_up

    def warm_up(curve):
        trunk, rows = curve.trainer.trunk, lambda: curve._ranking()[0].copy()
        weights, rows_before = [p.detach().clone() for p in trunk.parameters()], rows()
        real_warm_up(curve)
        assert all(torch.equal(p, before) for p, before in zip(trunk.parameters(), weights, strict=True))
        np.testing.assert_array_equal(rows(), rows_before)
        assert curve.trainer.progress.num_examples == 0 and curve.trainer.threads is not None

    monkeypatch.setattr(Curve, "_warm_up", warm_up)
    settings = CurveSettings(kind=kind, workers=int(kind == "hybrid"), epochs=3, measurements=2, device="cpu")
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "7")
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    result = run_curve(settings)
    assert result["memory_tuning"].items() >= {"MALLOC_TRIM_THRESHOLD_": "7", "MALLOC_MMAP_THRESHOLD_": None}.items()
    num_train = len(view.train_items)
    assert result["data_fingerprint"] == view.fingerprint
    assert [point["examples"] for point in result["points"]] == [2 * num_train, 3 * num_train]
    trained_s, steps = sum(result["samples"]["step_s"]), len(result["samples"]["step_s"])
    assert result["examples_per_s"] == pytest.approx(3 * num_train / trained_s, rel=0.01)
    phases_s = sum(result["phase_ms"].values()) * steps / 1000
    assert phases_s == pytest.approx(trained_s, rel=0.05, abs=0.05), "the time of measurements is in no phase"


def test_contenders_are_tuned_as_the_trunk_of_a_run_is():
    assert MEMORY_TUNING == TRUNK_MEMORY
