"""Measures while a training goes on, and pictures that cannot be read then."""

from types import SimpleNamespace

import numpy as np
import pytest
from tiny_data import write_photos

from hybrid.data.prepare import prepare
from hybrid.evaluation import MEASURES
from hybrid.features import FeatureMaker
from hybrid.head import WideHead
from hybrid.metrics_log import MetricsLog, read_metrics
from hybrid.trainer import Progress, Trainer
from hybrid.trunks import build_trunk
from hybrid.validation import Validation
from launch.config import DataConfig, RunConfig, TrainConfig, TrunkConfig

D = 8


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """Photos that are read anew every time, a trainer at the start of its budget, and what is told."""
    monkeypatch.setattr("hybrid.data.image_cache.MAX_BYTES", 0)
    names = write_photos(tmp_path / "photos", 60)
    data = DataConfig(source=f"folder:{tmp_path / 'photos'}", cache_dir=str(tmp_path / "cache"), image_size=16)
    config = RunConfig(data=data, trunk=TrunkConfig(dim=D), train=TrainConfig(epochs=1.0))
    view, told = prepare(data), []
    num_tags = len(view.vocabulary)
    with (
        WideHead(num_tags, D, workers=1, negatives=4, tag_counts=view.vocabulary.counts) as head,
        MetricsLog(tmp_path / "metrics.jsonl", tmp_path / "tensorboard") as metrics,
    ):
        trunk = build_trunk(config.trunk, data.image_size)
        trainer = Trainer(trunk, head, config.train, num_items=60, device="cpu", precision="float32")
        features = FeatureMaker(trunk, data.image_size, trainer.device, trainer.precision)
        validation = Validation(trainer, features, view, metrics, told.append)
        photos = [tmp_path / "photos" / name for name in names]
        yield SimpleNamespace(
            view=view,
            trainer=trainer,
            features=features,
            validation=validation,
            photos=photos,
            told=told,
            file=tmp_path / "metrics.jsonl",
        )


def at(stage, fraction, step):
    stage.trainer.progress = Progress(step=step, num_examples=int(fraction * 60))
    stage.validation.after_step()


def test_a_measurement_without_a_readable_picture_is_skipped_and_the_next_one_is_not(stage):
    away = [photo.rename(photo.with_suffix(".away")) for photo in stage.photos]
    at(stage, 0.2, step=3)
    assert read_metrics(stage.file) == []
    assert len(stage.told) == 1 and stage.told[0].startswith("step 3 is not measured: no validation picture")
    for photo in away:
        photo.rename(photo.with_suffix(".png"))
    at(stage, 0.25, step=4)
    at(stage, 0.4, step=5)
    (line,) = read_metrics(stage.file)
    assert (line["step"], line["kind"]) == (5, "valid") and set(MEASURES) <= line.keys()
    assert line["items"] == len(stage.view.valid_items) and len(stage.told) == 1


def test_features_of_nothing_have_the_length_of_features(stage):
    for items in (np.arange(0), np.arange(3)):
        found, features_ID = stage.features.of_items(stage.view, items, D)
        assert found.tolist() == items.tolist() and features_ID.shape == (len(items), D)
        assert features_ID.dtype == np.float32


def test_large_pictures_go_through_the_trunk_few_at_a_time(stage, monkeypatch):
    side, sizes = stage.view.images.size, []
    monkeypatch.setattr("hybrid.features._MOST_PIXELS", 2 * side**2)
    stage.trainer.trunk.register_forward_hook(lambda trunk, inputs, output: sizes.append(len(output)))
    found, _ = stage.features.of_items(stage.view, np.arange(6), D)
    assert sizes == [2, 2, 2] and found.tolist() == list(range(6))
