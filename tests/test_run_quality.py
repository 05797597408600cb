"""What a finished run left behind, read where git cannot say which commit it was."""

import json
from types import SimpleNamespace

import pytest

from benchmarks import run_quality
from benchmarks.page import page_text
from benchmarks.record import Record, read_record
from launch.config import RunConfig

MEASURED = dict.fromkeys(run_quality.MEASURES, 0.5)


@pytest.fixture
def run(tmp_path, monkeypatch):
    line = {"kind": "train", "step": 7, "used_s": 60.0, "examples_per_s": 100.0, "wait_fraction": 0.1, "loss": 1.0}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    (tmp_path / "run.json").write_text(json.dumps({"started": 1e9}))
    table = MEASURED | {"popularity": MEASURED, "items": 10, "mAP bounds": [1, 2]}
    opened = SimpleNamespace(metrics_file=tmp_path / "metrics.jsonl", config=RunConfig, results=lambda: {"test": table})
    monkeypatch.setattr(run_quality, "open_run", lambda _: opened)
    return tmp_path


def test_a_run_is_read_without_git_too(run, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    result = run_quality.measured_run(run)
    assert result["commit"] is None and result["steps"] == 7
    record = Record(run_quality.NAME, "Quality", {})
    record.add({"name": "mine", **result})
    written = read_record(record.write(tmp_path / "results"))
    assert "| mine: test, 10 pictures, mAP of tags with 1 to 2 | 0.500 (0.500) |" in run_quality.report_text(written)


def test_settings_name_runs_as_they_were_given(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["run_quality", f"my run={run}"])
    write = Record.write
    monkeypatch.setattr(Record, "write", lambda record: write(record, tmp_path / "results"))
    run_quality.main()
    record = read_record(tmp_path / "results" / "run_quality.json")
    assert record["settings"]["runs"] == [f"my run={run}"] and record["results"][0]["name"] == "my run"
    assert page_text(record) and "my run: test" in capsys.readouterr().out
