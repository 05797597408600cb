"""One training of a benchmark: what its budget counts, and what it leaves alone."""

import numpy as np
import pytest
import torch
from tiny_data import write_photos

from benchmarks.curve import Curve, run_curve
from benchmarks.curve_settings import CurveSettings
from hybrid.data.prepare import prepare
from launch.config import DataConfig


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
    result = run_curve(settings)
    num_train = len(view.train_items)
    assert [point["examples"] for point in result["points"]] == [2 * num_train, 3 * num_train]
    trained_s, steps = sum(result["samples"]["step_s"]), len(result["samples"]["step_s"])
    assert result["examples_per_s"] == pytest.approx(3 * num_train / trained_s, rel=0.01)
    phases_s = sum(result["phase_ms"].values()) * steps / 1000
    assert phases_s == pytest.approx(trained_s, rel=0.05, abs=0.05), "the time of measurements is in no phase"
