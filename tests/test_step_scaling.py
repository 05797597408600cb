"""The time of a step of trunk and output layer by number of tags."""

import argparse
import statistics

import numpy as np
import pytest
import torch

from benchmarks import gpu_only, step_scaling
from benchmarks.record import read_record
from benchmarks.result_pages import page_of
from benchmarks.step_scaling import NUM_ITEMS, made_up_items, measure
from benchmarks.step_scaling_report import TRUNK_ALONE, steps_table


def test_made_up_items_have_tags_by_zipfs_law():
    items = made_up_items(num_tags=500, tags_per_example=20)
    assert len(items.item_offsets) == NUM_ITEMS + 1 and items.item_offsets[-1] == len(items.item_tags)
    for start, stop in zip(items.item_offsets[:50], items.item_offsets[1:51], strict=True):
        tags = items.item_tags[start:stop]
        assert 1 <= len(tags) <= 20 and (np.diff(tags) > 0).all() and tags[0] >= 0 and tags[-1] < 500
    carried_N = np.bincount(items.item_tags, minlength=500)
    assert (
        carried_N[0] > 0.9 * NUM_ITEMS
        and items.counts_N[0] == items.num_train_items == 500
        and carried_N[:50].sum() > carried_N[50:].sum()
    )


def test_every_contender_is_timed_at_every_size(tmp_path, monkeypatch, capsys):
    options = "--tags 300 900 --contenders hybrid dense --workers 1 --trunk cnn-small --image-size 16 --batch-size 8"
    argv = [*options.split(), "--steps", "2", "--device", "cpu", "--results", str(tmp_path)]
    monkeypatch.setattr(step_scaling, "restart_if_blas_is_forced", lambda: None)
    monkeypatch.setattr("sys.argv", ["step_scaling", *argv])
    step_scaling.main()
    record = read_record(tmp_path / "step_scaling.json")
    names = [TRUNK_ALONE, "hybrid, 1 worker", "dense BCE in chunks"]
    assert [(r["num_tags"], r["contender"]) for r in record["results"]] == [(n, c) for n in (300, 900) for c in names]
    for result in record["results"]:
        steps_ms, waits_ms = (result["samples"][name] for name in ("step_ms", "wait_ms"))
        assert len(steps_ms) == len(waits_ms) == 2 and result["step_ms"] == statistics.median(steps_ms)
        assert result["wait_ms"] == statistics.median(waits_ms) and all(
            0 <= w <= s for w, s in zip(waits_ms, steps_ms, strict=True)
        )
        assert max(waits_ms) > 0 or not result["contender"].startswith("hybrid")
    page = (tmp_path / "step_scaling.md").read_text()
    assert page == page_of("step_scaling", record, tmp_path) and "| 900 | trunk alone |" in page
    assert "GPU memory" not in page and "300 tags, hybrid, 1 worker" in capsys.readouterr().out


def test_defaults_are_such_that_a_cpu_is_done_in_minutes(monkeypatch):
    monkeypatch.setattr("sys.argv", ["step_scaling", "--device", "cpu", "--batch-size", "7"])
    options = step_scaling._options()
    assert max(options.tags) <= 100_000 and options.trunk == "cnn-small" and options.batch_size == 7


def test_workers_by_default_are_those_beside_the_device_that_was_asked_for(monkeypatch, tmp_path):
    monkeypatch.setattr("workers.default_workers.available_cores", lambda: 16)
    monkeypatch.setattr("workers.accelerator.has_accelerator", lambda: True)
    argv = ["--device", "cpu", "--results", str(tmp_path)]
    for program, workers in ((step_scaling, [4]), (gpu_only, [1, 4])):
        monkeypatch.setattr("sys.argv", [program.NAME, *argv])
        assert program._options().workers == workers
        monkeypatch.setattr("sys.argv", [program.NAME, *argv, "--workers", "7"])
        assert program._options().workers == [7]


def test_a_layer_that_is_too_large_for_the_card_is_a_result(monkeypatch):
    def fail(*_):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 80 GiB.")

    monkeypatch.setattr(step_scaling, "_times", fail)
    result = measure(None, 10**9, None, argparse.Namespace(device="cpu"))
    assert not result["fits"] and result["reason"] == "CUDA out of memory"
    record = {"results": [result | {"contender": "dense"}], "settings": {"batch_size": 8}}
    assert "| 1,000,000,000 | dense | does not fit |" in steps_table(record)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_layer_on_a_card_takes_memory_there_and_that_of_workers_takes_none(tmp_path, monkeypatch):
    options = "--tags 200000 --contenders hybrid dense --workers 1 --trunk cnn-small --image-size 16 --batch-size 8"
    argv = [*options.split(), "--steps", "2", "--results", str(tmp_path)]
    monkeypatch.setattr(step_scaling, "restart_if_blas_is_forced", lambda: None)
    monkeypatch.setattr("sys.argv", ["step_scaling", *argv])
    step_scaling.main()
    _, hybrid, dense = read_record(tmp_path / "step_scaling.json")["results"]
    assert dense["gpu_memory_bytes"] - hybrid["gpu_memory_bytes"] > 200_000 * 128 * 4
