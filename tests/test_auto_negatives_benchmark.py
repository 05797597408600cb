"""The comparison of fixed and steered numbers of negatives: its commands, its table, its plot."""

import argparse
from pathlib import Path

import pytest

from benchmarks import auto_negatives
from benchmarks.auto_negatives_report import by_negatives, report_text, write_report
from benchmarks.page import MEASURES
from benchmarks.record import Record, read_record
from workers.errors import RunError

OPTIONS = argparse.Namespace(
    minutes=0.1, seeds=[0, 1], negatives=[64, 1024], workers=1, max_tags=0, max_items=0, max_negatives=None
)


def result(negatives, seed, p_at_5, path):
    return {
        "negatives": negatives,
        "seed": seed,
        "steps": 100,
        "training_s": 50.0,
        "examples": 12_800,
        "final": dict.fromkeys(MEASURES, p_at_5),
        "popularity": dict.fromkeys(MEASURES, 0.123),
        "samples": {
            "used_s": [1.0, 2.0, 3.0],
            "negatives": path,
            "wait_fraction": [0.0, 0.02, 0.01],
            "worker_ms": [None, 5.0, 18.0],
            "shadow_ms": [None, 20.0, 20.0],
        },
    }


@pytest.fixture
def record():
    record = Record("auto_negatives", "Emoji at equal time", vars(OPTIONS))
    for seed in (0, 1):
        record.add(result("64", seed, 0.2 + 0.1 * seed, [64] * 3))
        record.add(result("auto", seed, 0.5, [64, 128, 900 + seed]))
    return record


def test_rows_are_means_over_seeds_and_popularity(record, tmp_path):
    lines = report_text(read_record(record.write(tmp_path))).splitlines()
    assert "| 64 | 0.250 (0.200 to 0.300) |" in lines[4] and lines[4].endswith("| 256 | 1.0% | 64 |  |")
    assert "| auto | 0.500 (0.500 to 0.500) |" in lines[5] and lines[5].endswith("| 900 / 901 | 90% / 90% |")
    assert lines[6].startswith("| popularity | 0.123 |")


def test_seeds_of_a_contender_stay_together(record):
    assert {name: [r["seed"] for r in of] for name, of in by_negatives(record.content["results"]).items()} == {
        "64": [0, 1],
        "auto": [0, 1],
    }


def test_table_and_plot_stand_beside_the_json(record, tmp_path):
    table, plot = write_report(record.write(tmp_path))
    assert table.read_text().startswith("# Emoji at equal time") and "<svg" in plot.read_text()


@pytest.mark.parametrize(
    ("contender", "negatives", "start"),
    [("64", "64", []), ("auto", "auto", []), ("auto from 64", "auto", ["--set", "head.negatives=64"])],
)
def test_auto_starts_from_the_default_or_from_what_its_name_says(contender, negatives, start):
    command = auto_negatives._command(contender, 1, OPTIONS, Path("/nowhere"))
    assert command[command.index("--seed") + 1] == "1" and command[command.index("--negatives") + 1] == negatives
    assert (command[-2:] if "--set" in command else []) == start
    options = argparse.Namespace(**{**vars(OPTIONS), "max_negatives": 99})
    is_bound = "train.max_negatives=99" in auto_negatives._command(contender, 1, options, Path("/nowhere"))
    assert is_bound == (negatives == "auto")


def test_a_run_that_fails_is_an_error(monkeypatch):
    monkeypatch.setattr(auto_negatives, "_command", lambda *_: ["false"])
    with pytest.raises(RunError, match="with 64 negatives failed"):
        auto_negatives.trained("64", 0, OPTIONS)


@pytest.mark.slow
def test_what_a_real_run_leaves_behind_is_read(tmp_path, monkeypatch):
    from shapes import hybrid, train_options, write_shapes

    write_shapes(tmp_path / "shapes", 156)
    run = tmp_path / "run"
    options = train_options(tmp_path / "shapes", run_dir=run, negatives="auto", workers=1)
    assert hybrid(tmp_path, *options, "--set", "train.min_negatives=2").returncode == 0
    found = auto_negatives.measured(run)
    assert set(found["final"]) == set(MEASURES) and found["steps"] > 0
    assert all(number >= 2 for number in found["samples"]["negatives"])
