"""The temperature that divides the evidence of features."""

import numpy as np
import pytest
import torch

from hybrid.evaluation import evaluate
from hybrid.ranking import LiveRows, Ranker
from hybrid.temperature import NEUTRAL, TEMPERATURES, choose_temperature, load_temperature, save_temperature
from hybrid.truths import Truths
from workers.errors import RunError

N, DIM, ITEMS = 40, 6, 30


def truths_of(tags, num_items=ITEMS):
    offsets = np.arange(num_items + 1, dtype=np.int64) * len(tags)
    return Truths(offsets, np.tile(np.array(tags, np.int32), num_items), np.zeros(num_items, np.int64))


@pytest.fixture
def misled():
    """Five common tags are always true; evidence, at full strength, says something else."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(N, DIM)).astype(np.float32)
    rows[:5] = 0
    bias = np.full(N, -1.5, np.float32)
    bias[:5] = 0
    features = rng.normal(size=(ITEMS, DIM)).astype(np.float32)
    return LiveRows(rows), bias, features


def test_too_certain_evidence_gets_the_temperature_with_the_best_precision(misled):
    rows, bias, features = misled
    truths = truths_of(range(5))
    chosen = choose_temperature(Ranker(rows, bias), features, truths)
    counts = np.arange(N, 0, -1)
    precision = {t: evaluate(features, rows, bias, truths, counts, 100, temperature=t)["P@5"] for t in TEMPERATURES}
    assert chosen > NEUTRAL and precision[chosen] == max(precision.values()) > precision[NEUTRAL]


def test_evidence_that_is_right_is_left_alone(misled):
    rows, bias, features = misled
    best = Ranker(rows, bias).topk(torch.from_numpy(features), 5)[0].numpy()
    truths = Truths(
        np.arange(0, 5 * ITEMS + 1, 5), np.sort(best, axis=1).ravel().astype(np.int32), np.zeros(ITEMS, int)
    )
    assert choose_temperature(Ranker(rows, bias), features, truths) == NEUTRAL


def test_no_validation_items_leave_it_neutral(misled):
    rows, bias, features = misled
    assert choose_temperature(Ranker(rows, bias), features[:0], truths_of(range(5), 0)) == NEUTRAL


def test_mean_average_precision_does_not_depend_on_it(misled):
    rows, bias, features = misled
    rng = np.random.default_rng(1)
    tags = [np.sort(rng.choice(N, 4, replace=False)) for _ in range(ITEMS)]
    truths = Truths(np.arange(0, 4 * ITEMS + 1, 4), np.concatenate(tags).astype(np.int32), np.zeros(ITEMS, int))
    counts = np.arange(N, 0, -1)
    cool, warm = (evaluate(features, rows, bias, truths, counts, 100, temperature=t) for t in (1.0, 2.0))
    assert cool["mAP"] == warm["mAP"] and cool["temperature"] == 1.0 and warm["temperature"] == 2.0


def test_it_is_saved_and_read(tmp_path):
    path = tmp_path / "temperature.json"
    assert load_temperature(path, 10) == NEUTRAL
    save_temperature(path, 1.5, 10)
    assert load_temperature(path, 10) == 1.5
    assert load_temperature(path, 11) == NEUTRAL, "training has gone on"


@pytest.mark.parametrize(
    "content",
    [
        *("", "{}", "[]", '{"temperature": 1.5}', '{"temperature": "warm", "step": 1}'),
        *('{"temperature": 0, "step": 1}', '{"temperature": NaN, "step": 1}'),
    ],
)
def test_a_damaged_file_is_an_error_that_names_it(tmp_path, content):
    path = tmp_path / "temperature.json"
    path.write_text(content)
    with pytest.raises(RunError, match=r"temperature\.json"):
        load_temperature(path, 1)
