"""The tag matrix of a run: what cannot be made or read is a typed error that says what to do."""

from dataclasses import replace

import numpy as np
import pytest

from hybrid.score_bias import score_bias_N
from launch.config import RunConfig, TrunkConfig
from launch.resources import Prepared, make_matrix
from launch.run_settings import write_config
from launch.runs import RunLock
from workers.config import OBJECTIVES
from workers.errors import RunError
from workers.matrix import TagMatrix
from workers.matrix_io import save_matrix
from workers.tag_weights import inverse_frequency_weights

CONFIG = RunConfig(trunk=TrunkConfig(dim=8))
N = 6


@pytest.fixture
def prepared(tmp_path):
    arrays = {
        "counts": np.ones(N, np.int64),
        "marginal": np.full(N, 1 / N),
        "item_offsets": np.arange(4, dtype=np.int64),
        "item_tags": np.arange(3, dtype=np.int32),
    }
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    return Prepared(num_tags=N, num_items=3, num_train=3, view=tmp_path)


def test_a_matrix_that_does_not_fit_is_told_with_its_size(prepared, monkeypatch):
    def fail(*arguments, **named):
        raise MemoryError("9 GiB are wanted, 8 GiB are available: use a smaller dim")

    monkeypatch.setattr(TagMatrix, "create", fail)
    with pytest.raises(RunError, match=r"6 tags x 8 do not fit here: 9 GiB.*smaller dim"):
        make_matrix(CONFIG, prepared, None)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_tag_of_every_picture_ranks_first_though_it_weighs_nothing(prepared, objective):
    """Its row and its bias never move: it ranks where it starts, as all others do until they have learned something."""
    counts_N, marginal_N = np.array([3, 1, 1, 1, 0, 0]), np.array([3, 1, 1, 1, 0, 0]) / 6
    arrays = {
        "counts": counts_N,
        "marginal": marginal_N,
        "item_offsets": np.array([0, 2, 4, 6]),
        "item_tags": np.array([0, 1, 0, 2, 0, 3], np.int32),
    }
    for name, array in arrays.items():
        np.save(prepared.view / f"{name}.npy", array)
    config = replace(
        CONFIG,
        head=replace(CONFIG.head, objective=objective),
        train=replace(CONFIG.train, tag_loss_weight="inverse-frequency"),
    )
    weight_N = inverse_frequency_weights(counts_N, prepared.num_train)
    assert weight_N[0] == 0 < weight_N[1]
    matrix = make_matrix(config, prepared, None)
    score_N = score_bias_N(matrix, config.head, "probability", weight_N)
    matrix.close()
    assert score_N.argmax() == 0
    np.testing.assert_allclose(np.exp(score_N), marginal_N, rtol=1e-5)


def test_a_checkpoint_whose_rows_are_damaged_names_the_folder_to_remove(prepared, tmp_path):
    checkpoint = tmp_path / "step-000000001"
    matrix = make_matrix(CONFIG, prepared, None)
    save_matrix(matrix, checkpoint / "matrix", CONFIG.head)
    matrix.close()
    make_matrix(CONFIG, prepared, checkpoint).close()
    rows = checkpoint / "matrix" / "rows-00000.npy"
    rows.write_bytes(rows.read_bytes()[:-4] + b"\x00\x01\x02\x03")
    with pytest.raises(RunError, match=r"rows-00000\.npy.*Remove .*step-000000001: then the run goes on"):
        make_matrix(CONFIG, prepared, checkpoint)


def test_a_folder_that_cannot_be_written_is_a_typed_error(tmp_path):
    for claim in (lambda: RunLock(tmp_path / "gone"), lambda: write_config(tmp_path / "gone", CONFIG)):
        with pytest.raises(RunError, match=r"cannot write .*gone.*No such file"):
            claim()
