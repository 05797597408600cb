"""Batches come in the given order, whoever decodes them; bad pictures are left out and named once."""

from pathlib import Path

import numpy as np
import pytest
from tiny_data import write_photos

from hybrid.data import View, batches, prepare
from hybrid.data import prepare as prepare_function
from launch.config import DataConfig
from workers.errors import DataError

import hybrid.data.image_cache  # isort: skip

NUM_PHOTOS = 40


def prepared(tmp_path: Path) -> View:
    config = DataConfig(source=f"folder:{tmp_path / 'photos'}", cache_dir=str(tmp_path / "cache"), image_size=12)
    return prepare(config)


@pytest.fixture
def decoded(tmp_path: Path) -> View:
    write_photos(tmp_path / "photos", NUM_PHOTOS)
    return prepared(tmp_path)
