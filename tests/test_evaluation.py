"""The table of measures on a small problem, against its definitions."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

import hybrid.evaluation as evaluation
from hybrid import tables
from hybrid.evaluation import MEASURES, evaluate
from hybrid.gallery import metrics_section
from hybrid.ranking import LiveRows
from hybrid.truths import Truths
from launch import report
from workers.errors import DataError


@pytest.fixture
def problem():
    rng = np.random.default_rng(5)
    num_items, num_tags = 60, 200
    lists = [np.sort(rng.choice(num_tags, rng.integers(0, 12), replace=False)) for _ in range(num_items)]
    offsets = np.cumsum([0] + [len(tags) for tags in lists])
    truths = Truths(offsets, np.concatenate(lists).astype(np.int32), rng.integers(0, 2, num_items))
    features = rng.standard_normal((num_items, 16)).astype(np.float32)
    rows = rng.standard_normal((num_tags, 16)).astype(np.float32)
    counts = np.sort(rng.integers(0, 40, num_tags))[::-1].copy()
    bias = np.where(counts > 0, rng.standard_normal(num_tags), -np.inf).astype(np.float32)
    return features, LiveRows(rows), bias, truths, counts, 500


def slow_map(features, rows, truths, counts):
    precisions = []
    for tag in range(len(counts)):
        is_true = np.array([tag in truths.of(i) for i in range(len(truths))])
        if counts[tag] == 0 or not 2 <= is_true.sum() <= 50:
            continue
        in_order = is_true[np.argsort(-(features @ rows[tag]))]
        precisions.append(np.mean([in_order[: place + 1].mean() for place in np.flatnonzero(in_order)]))
    return np.mean(precisions), len(precisions)


def test_table_has_every_measure_and_popularitys(problem):
    table = evaluate(*problem)
    assert all(name in table and name in table["popularity"] for name in MEASURES)
    assert table["items"] == 60 and table["mAP bounds"] == [2, 50]
    assert table["popularity"]["distinct tags"] == 5


def test_measures_follow_their_definitions(problem):
    features, rows, bias, truths, counts, _ = problem
    table = evaluate(*problem)
    order = np.argsort(-(features @ rows.rows_ND.T + bias), axis=1)[:, :5]
    assert table["P@5"] == pytest.approx(np.mean([np.isin(top, truths.of(i)).mean() for i, top in enumerate(order)]))
    popular = np.argsort(-counts, kind="stable")[:5]
    expected = np.mean([np.isin(popular, truths.of(i)).mean() for i in range(60)])
    assert table["popularity"]["P@5"] == pytest.approx(expected)
    value, num_tags = slow_map(features, rows.rows_ND, truths, counts)
    assert table["mAP"] == pytest.approx(value) and table["mAP tags"] == num_tags


def test_map_of_uninformative_features_is_popularitys(problem):
    features, *rest = problem
    table = evaluate(np.zeros_like(features), *rest)
    assert table["mAP"] == pytest.approx(table["popularity"]["mAP"], abs=1e-12)


def test_streaming_does_not_change_the_table(problem, monkeypatch):
    whole = evaluate(*problem)
    monkeypatch.setattr(evaluation, "ITEMS_PER_UPDATE", 7)
    monkeypatch.setattr(evaluation, "BLOCK_ROWS", 33)
    monkeypatch.setattr(evaluation, "SCORES_PER_BLOCK", 60 * 4)
    cut = evaluate(*problem)
    for name in MEASURES:
        assert cut[name] == pytest.approx(whole[name], abs=1e-12), name
        assert cut["popularity"][name] == pytest.approx(whole["popularity"][name], abs=1e-12), name


def test_map_bounds_are_options(problem):
    assert evaluate(*problem, map_bounds=(5, 60))["mAP bounds"] == [5, 60]


def test_map_of_no_tag_is_unknown_in_tables_and_null_in_json(problem):
    """60 items, of which no tag has all."""
    measured = {"score": "probability", **evaluate(*problem, map_bounds=(60, 60))}
    assert measured["mAP tags"] == 0 and measured["mAP"] is None and measured["popularity"]["mAP"] is None
    assert json.loads(json.dumps(measured, allow_nan=False))["mAP"] is None
    for table in (tables.metrics_table(measured, "test"), report.metrics_table("test", measured)):
        console = Console(file=io.StringIO(), width=100)
        console.print(table)
        line = next(line for line in console.file.getvalue().splitlines() if " mAP " in line)
        assert "0.000" not in line and line.count(" - ") == len(table.columns) - 1
    assert metrics_section("test", measured, is_chosen=True).count("<td>-</td>") == 2


def test_diverged_features_are_refused(problem):
    features, *rest = problem
    features[0, 0] = np.inf
    with pytest.raises(DataError, match=r"diverged.*fresh one with a lower learning rate"):
        evaluate(features, *rest)
