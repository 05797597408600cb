"""Run directories, and the log of numbers in them."""

import json
import math
import os

import numpy as np
import pytest
import tomli_w
from full_disk import full_disk
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hybrid.metrics_log import MetricsLog, read_metrics
from hybrid.rundir import RunDirectory, open_run
from launch.config import DataConfig, RunConfig, TrainConfig
from launch.run_argument import RUN
from launch.run_record import RunRecord, write_record
from launch.run_settings import write_config
from workers.disk import write_whole
from workers.errors import ConfigError, RunError
from workers.settings import to_plain

# TensorBoard's writer is a thread that ends with the error which the full disk causes.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


def make_run(path, config=None, started=None):
    path.mkdir(parents=True)
    (path / "config.toml").write_text(tomli_w.dumps(to_plain(config or RunConfig())))
    if started is not None:
        write_record(path, RunRecord(pid=1, control="ipc://nowhere", started=started, state="finished"))
    return path


def test_settings_come_back(tmp_path):
    config = RunConfig(train=TrainConfig(minutes=3, lr=0.5), workers=7)
    assert RunDirectory(make_run(tmp_path / "run", config)).config() == config


def test_damaged_settings_are_a_typed_error(tmp_path):
    run = make_run(tmp_path / "run")
    (run / "config.toml").write_text("= no")
    with pytest.raises(RunError, match=r"config\.toml"):
        RunDirectory(run).config()
    (run / "config.toml").write_text("worker = 3")
    with pytest.raises(ConfigError, match="workers"):
        RunDirectory(run).config()


def test_settings_may_begin_with_the_mark_of_an_editor(tmp_path):
    config = RunConfig(data=DataConfig(source="folder:/Fotos für später"))
    run = make_run(tmp_path / "run", config)
    text = tomli_w.dumps(to_plain(config))
    (run / "config.toml").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert RunDirectory(run).config() == config


def test_runs_are_found_by_path_name_and_last(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match="hybrid train"):
        open_run("last")
    first, second = make_run(tmp_path / "runs" / "b", started=1.0), make_run(tmp_path / "runs" / "a", started=2.0)
    assert open_run("last").path == second
    assert open_run("b").path == first and open_run(first).path == first
    (first / "checkpoints" / "step-000000001" / "matrix").mkdir(parents=True)
    assert open_run("last").path == first  # the other one failed, or has only just begun
    with pytest.raises(RunError, match="no run 'c'"):
        open_run("c")


def test_python_and_the_command_line_mean_the_same_run_by_last(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = make_run(tmp_path / "runs" / "good", started=1.0)
    make_run(tmp_path / "runs" / ".new-killed", started=4.0)
    make_run(tmp_path / "runs" / "never-started")
    (make_run(tmp_path / "runs" / "damaged", started=5.0) / "run.json").write_text("{")
    assert open_run("last").path == RUN.convert("last", None, None) == run


def test_results_merge_by_split(tmp_path):
    run = RunDirectory(make_run(tmp_path / "run"))
    assert run.results() == {}
    run.write_results({"test": {"P@5": 0.5}})
    run.write_results({"twemoji": {"P@5": 0.4}})
    assert run.results() == {"test": {"P@5": 0.5}, "twemoji": {"P@5": 0.4}}
    run.write_results({"empty": {"P@5": math.nan}})
    assert json.loads(run.results_file.read_text(), parse_constant=pytest.fail)["empty"] == {"P@5": None}
    for damaged in ("{", "[]", "3", "null"):
        run.results_file.write_text(damaged)
        with pytest.raises(RunError, match="hybrid evaluate"):
            run.results()
    run.write_results({"test": {"P@5": 0.6}})  # as `hybrid evaluate` does, which the error advises
    assert run.results() == {"test": {"P@5": 0.6}}


def test_the_advice_on_other_data_can_be_pasted_into_a_shell(tmp_path):
    (tmp_path / "my run").mkdir()
    run = RunDirectory(tmp_path / "my run")
    write_config(run.path, RunConfig(data=DataConfig(source="folder:/my photos")))
    before = f"hybrid train --config '{tmp_path}/my run/config.toml'"
    assert run.fresh_run_command("folder:/my photos") == before
    assert run.fresh_run_command("folder:/elsewhere/my photos") == f"{before} --data 'folder:/elsewhere/my photos'"


@pytest.mark.parametrize("content", ['{"fingerprint": "a', "", "[]", "\xff"])
def test_a_damaged_record_of_the_data_is_not_taken_for_none(tmp_path, content):
    run = RunDirectory(tmp_path)
    run.prepared_file.write_bytes(content.encode("latin-1"))
    for use in (lambda: run.prepared("content"), run.num_train):
        with pytest.raises(RunError, match=r"prepared\.json is damaged .*remove it.*hybrid train --resume"):
            use()
    assert run.prepared_file.read_bytes() == content.encode("latin-1")


@pytest.fixture
def places(tmp_path):
    return tmp_path / "metrics.jsonl", tmp_path / "tensorboard"


def test_lines_are_on_disk_at_once(places):
    with MetricsLog(*places) as log:
        log.write(1, "train", {"loss": np.float32(0.5), "popularity": {"P@5": 0.25}})
        (line,) = read_metrics(places[0])
    assert line["step"] == 1 and line["kind"] == "train" and line["loss"] == 0.5 and line["popularity"] == {"P@5": 0.25}
    assert any(path.name.startswith("events") for path in places[1].iterdir())


def test_values_that_are_not_finite_become_null(places):
    with MetricsLog(*places) as log:
        log.write(1, "train", {"loss": math.nan, "inner": {"x": np.float64(np.inf)}, "list": [1.0, -math.inf]})
    (line,) = [json.loads(text, parse_constant=pytest.fail) for text in places[0].read_text().splitlines()]
    assert line["loss"] is None and line["inner"] == {"x": None} and line["list"] == [1.0, None]


def test_resuming_drops_what_came_after_the_checkpoint(places):
    with MetricsLog(*places) as log:
        for step in range(1, 8):
            log.write(step, "train", {"loss": step})
    with MetricsLog(*places, resume_step=4) as log:
        log.write(5, "train", {"loss": 50})
    assert [line["loss"] for line in read_metrics(places[0])] == [1, 2, 3, 4, 50]
    with MetricsLog(*places, resume_step=0) as log:  # the attempt before saved nothing
        log.write(1, "train", {"loss": 10})
    assert [line["loss"] for line in read_metrics(places[0])] == [10]


def test_a_line_cut_by_a_kill_is_dropped_but_damage_is_not_hidden(places):
    with MetricsLog(*places) as log:
        log.write(1, "train", {"loss": 1})
        log.write(2, "train", {"loss": 2})
    file = places[0]
    file.write_text(file.read_text()[:-9])
    assert [line["step"] for line in read_metrics(file)] == [1]
    with MetricsLog(*places) as log:
        log.write(3, "train", {"loss": 3})
    assert [line["step"] for line in read_metrics(file)] == [1, 3]
    file.write_text("nonsense\n" + file.read_text())
    with pytest.raises(RunError, match="line 1"):
        read_metrics(file)


@pytest.mark.parametrize("room_bytes", [-5, 0, 20])
def test_a_full_disk_is_told_once_and_costs_only_the_lines_it_has_no_room_for(places, room_bytes):
    told = []
    with MetricsLog(*places, tell=told.append) as log:
        log.write(1, "train", {"loss": 1, "text": "x" * 400})
        with full_disk(places[0].stat().st_size + room_bytes):
            log.write(2, "train", {"loss": 2})
            log.write(3, "train", {"loss": 3})
            assert [line["step"] for line in map(json.loads, places[0].read_text().splitlines())] == [1]
        for step in (4, 5, 6):
            log.write(step, "train", {"loss": step})
        assert len(told) == 1 and "metrics.jsonl" in told[0] and "Training goes on" in told[0]
    assert [line["step"] for line in map(json.loads, places[0].read_text().splitlines())] == [1, 4, 5, 6]
    with MetricsLog(*places, tell=told.append) as log, full_disk(places[0].stat().st_size):
        log.write(7, "train", {"loss": 7})
    assert len(told) == 2


def test_curves_go_on_in_tensorboard_when_there_is_room_again(places):
    with MetricsLog(*places) as log:
        log.write(1, "train", {f"number {i}": i for i in range(20)})
        events = next(places[1].iterdir())
        places[0].write_bytes(b"")  # so that only the events lack room
        with full_disk(events.stat().st_size + 10):
            for step in range(2, 5):
                log.write(step, "train", {f"number {i}": i for i in range(20)})
        for step in range(5, 8):
            log.write(step, "train", {"loss": step})
    curves = EventAccumulator(str(places[1])).Reload()
    assert [event.step for event in curves.Scalars("train/loss")][-2:] == [6, 7]


def test_closing_twice_is_fine(places):
    log = MetricsLog(*places)
    log.close()
    log.close()
    assert read_metrics(places[0]) == []


def test_whole_files_replace_and_leave_nothing_else(tmp_path):
    path = tmp_path / "file"
    write_whole(path, "old")
    write_whole(path, b"new")
    assert path.read_bytes() == b"new" and [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.stat().st_mode & 0o777 == 0o644
    (tmp_path / "folder").mkdir()
    with pytest.raises(RunError, match="folder"):
        write_whole(tmp_path / "folder", "x")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


def test_a_name_that_is_not_utf8_can_be_written_and_read_again_from_json(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    write_whole(tmp_path / "names.json", json.dumps([name], ensure_ascii=False))
    assert json.loads((tmp_path / "names.json").read_text()) == [name]
