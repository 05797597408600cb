"""What is shown of a run: the live view, the plain lines, figures, the report at the end."""

import contextlib
import io
import json
import math
import os
import threading

import pytest
from rich.console import Console
from scripted_trunk import wait_until
from test_link import step

from launch.figures import duration, rate, share, sparkline
from launch.live import LiveView, render
from launch.plain import PlainView, describe, describe_at_length
from launch.report import named_tables, next_commands, print_report, resume_command, this_command
from launch.snapshot import History, Snapshot
from launch.views import DetachedView, choose_console, choose_view
from workers.json_text import to_json

POPULARITY = {"P@5": 0.399, "mAP": 0.01}
TABLE = {"P@5": 0.713, "mAP": 0.187, "mAP bounds": [2, 50], "items": 1467, "popularity": POPULARITY}


SHARES = {"wait": 0.25, "receive": 0.05, "draw": 0.125, "kernel": 0.5, "reply": 0.075}


def worker(index, **changes):
    return {"name": f"worker-{index}-1", "state": "ready", "rows_per_s": 2e6, "in_flight": 3, **changes}


@pytest.fixture
def training():
    snapshot = Snapshot(run="runs/x", source="emoji", state="training", workers_wanted=2)
    numbers = {"step": 1234, "loss": 3.25, "examples_per_s": 812.5, "wait_fraction": 0.021, "negatives": 1024}
    rest = {"in_flight": 5, "fraction": 0.43, "eta_s": 201.0, "staleness_chunks": 1.5, "chunks_resent": 4}
    snapshot.take(
        {
            "kind": "step",
            **step(**numbers, **rest, device="cuda:0", threads=3, workers=[worker(0), worker(1, state="starting")]),
        }
    )
    return snapshot


def drawn(snapshot, height=40, width=110):
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=False)
    console.print(render(snapshot, height, width))
    return console.file.getvalue()


def test_the_live_view_shows_every_figure(training):
    text = drawn(training)
    for shown in (
        "runs/x",
        "training",
        "1,234",
        "3.2500",
        "812",
        "43.0%",
        "ETA 3:21",
        "2.1%",
        "1,024",
        "1.5",
        "4",
        "cuda:0, 3 threads",
    ):
        assert shown in text
    for shown in ("worker (2 of 2)", "worker-0-1", "worker-1-1", "starting", "2.00 M", "Ctrl-C finishes the step"):
        assert shown in text


def test_the_live_view_shows_where_time_goes(training):
    trunk = {"load": 0.0004, "forward": 0.25, "wait": 0.021, "backward": 0.6, "other": 0.1286}
    first, second = worker(0, phase_fraction=SHARES), worker(1)  # the second one tells nothing
    training.step = {**training.step, "phase_fraction": trunk, "workers": [first, second]}
    text = drawn(training, width=80)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert text.index("backward 60.0%") < text.index("forward 25.0%") < text.index("other 12.9%")
    assert "load" not in text  # next to nothing
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.startswith("worker-")}
    assert rows["worker-0-1"][-5:] == ["75.0%", "5.0%", "12.5%", "50.0%", "7.5%"]
    assert rows["worker-1-1"][-5:] == ["-"] * 5


def test_the_shares_of_workers_that_have_no_line_are_averaged(training):
    busy, idle = worker(0, phase_fraction=SHARES), worker(1, phase_fraction={**dict.fromkeys(SHARES, 0.0), "wait": 1.0})
    training.step = {**training.step, "workers": [worker(0)] * 3 + [busy, idle] * 50}
    (line,) = (line for line in drawn(training, height=20).splitlines() if "100 more" in line)
    assert line.split()[-5:] == ["37.5%", "2.5%", "6.2%", "25.0%", "3.8%"]


def test_before_the_first_step_the_phase_is_shown():
    snapshot = Snapshot(run="runs/x", source="emoji")
    assert "starting" in drawn(snapshot)
    snapshot.take({"kind": "progress", "phase": "prepare", "text": "rasterising", "done": 1200, "total": 14661})
    assert "rasterising" in drawn(snapshot)
    assert "1,200 / 14,661" in drawn(snapshot)


def test_a_run_that_ended_without_a_step_is_not_said_to_start():
    text = drawn(Snapshot(run="runs/x", source="emoji", state="finished"))
    assert "finished" in text and "starting" not in text


def test_many_workers_fit_in_a_low_terminal_and_are_summed(training):
    training.step = {**training.step, "workers": [worker(i) for i in range(200)]}
    text = drawn(training, height=24)
    assert len(text.splitlines()) <= 24
    assert "193 more" in text
    assert "386 M" in text


@pytest.mark.parametrize("width", [80, 89, 90, 110])
def test_a_terminal_of_eighty_columns_shows_everything_whole(training, width):
    shares = {"wait": 0.0, "receive": 0.11, "draw": 0.12, "kernel": 0.66, "reply": 0.11}
    workers = [worker(0, phase_fraction=shares), worker(1, state="starting", phase_fraction=shares)]
    training.step = {**training.step, "workers": workers, "examples_per_s": 12_345, "device": "cuda", "threads": 14}
    text = drawn(training, height=24, width=width)
    assert "…" not in text and "cuda, 14 threads" in text and "starting" in text
    (row,) = (line.split() for line in text.splitlines() if line.startswith("worker-0-1"))
    assert row[-5:] == ["100.0%", "11.0%", "12.0%", "66.0%", "11.0%"]


@pytest.mark.parametrize("width", [60, 70])
def test_a_terminal_too_narrow_for_everything_shows_whole_figures_and_fewer_columns(training, width):
    training.step = {**training.step, "workers": [worker(0, phase_fraction=SHARES)], "negatives": 16_384}
    text = drawn(training, height=24, width=width)
    assert len(text.splitlines()) <= 24 and "…" not in text
    for shown in ("1,234", "chunks in flight", "cuda:0, 3 threads", "16,384", "Ctrl-C finishes the step"):
        assert shown in text
    (row,) = (line.split() for line in text.splitlines() if line.startswith("worker-0-1"))
    assert row[-2:] == ["75.0%", "50.0%"] and "receive" not in text


def test_a_narrow_terminal_breaks_nothing(training):
    assert max(len(line) for line in drawn(training, width=40).splitlines()) <= 40


def test_markup_in_foreign_text_is_shown_as_it_is(training):
    training.source = "folder:/[bold]x[/nothing]"
    training.show("evaluate", "scoring", 1, 2)
    assert "[bold]x[/nothing]" in drawn(training)
    console = Console(file=io.StringIO(), width=80)
    LiveView(console).note("[red]not markup[/blue]")
    assert "[red]not markup[/blue]" in console.file.getvalue()


def test_a_loss_that_is_not_a_number_is_shown_and_not_drawn(training):
    training.take({"kind": "step", **step(loss=math.nan, eta_s=math.inf)})
    assert "nan" in drawn(training)
    assert "ETA -" in drawn(training)
    assert training.losses.points == [3.25]


def test_a_stopping_run_says_so_and_speaks_of_no_ctrl_c_before(training):
    """`hybrid stop` or SIGTERM may have stopped it."""
    training.state = "stopping"
    text = drawn(training)
    assert "a second Ctrl-C ends everything at once" in text and "Ctrl-C again" not in text


def test_plain_lines_come_at_once_for_news_and_then_every_few_seconds(training, monkeypatch):
    now_s = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now_s)
    stream = io.StringIO()
    view = PlainView(stream)
    for changes in ({"step": 1}, {"step": 2}, {"step": 3}):
        training.take({"kind": "step", **step(**changes)})
        view.update(training)
    assert len(stream.getvalue().splitlines()) == 1
    now_s += 6
    view.update(training)
    assert "step 3 " in stream.getvalue().splitlines()[1]
    training.show("evaluate", "scoring images", 5, 10)
    view.update(training)
    assert stream.getvalue().splitlines()[2].endswith("training: scoring images 5/10")
    now_s += 6
    view.update(training)  # nothing new: no line
    assert len(stream.getvalue().splitlines()) == 3


def test_status_is_told_in_words_and_as_json(training):
    training.note("a remark")
    status = json.loads(to_json(training.plain()))
    shares = {"forward": 0.3, "wait": 0.0001, "backward": 0.6999}
    told = describe_at_length({**status, "phase_fraction": shares, "workers": [worker(0, phase_fraction=SHARES)]})
    assert "  trunk: forward 30.0%, backward 70.0%\n" in told
    assert "in flight 3; wait 25.0%, receive 5.0%, draw 12.5%, kernel 50.0%, reply 7.5%\n" in told
    assert describe(status).startswith("training: step 1,234 (43.0%), loss 3.2500, 812 examples/s")
    told = describe_at_length(status)
    assert "worker-1-1: starting, 2.00 M rows/s, in flight 3" in told
    assert "note: a remark" in told


@pytest.fixture
def colour_terminal(monkeypatch):
    """The environment of one, wherever the tests run."""
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


class Terminal(io.TextIOWrapper):
    """A terminal that remembers what it was sent, unless it fails."""

    def __init__(self, encoding="utf-8", error=None):
        super().__init__(io.BytesIO(), encoding=encoding)
        self.error = error

    def isatty(self):
        return True

    def write(self, text):
        if self.error is not None:
            raise self.error
        return super().write(text)

    def sent(self):
        self.flush()
        return self.buffer.getvalue()


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), ValueError("I/O operation on closed file")])
def test_a_lost_terminal_silences_the_view_and_nothing_else(training, colour_terminal, error, caplog, monkeypatch):
    escaped = []
    monkeypatch.setattr("threading.excepthook", escaped.append)
    view = choose_view(Console(file=Terminal(error=error)))
    with caplog.at_level("INFO", "launch.views"):
        view.start()
        view.update(training, force=True)
        view.note("x")
        view.stop(training)
        wait_until(lambda: not view.is_stuck, "the view to give up")
    assert caplog.messages == [f"the run goes on without its view: {error}"]  # a loss, and no defect of the view
    assert escaped == []


def test_a_terminal_is_drawn_on_by_a_thread_until_the_last_state(training, colour_terminal):
    terminal = Terminal()
    view = choose_view(Console(file=terminal, width=100, height=40))
    view.start()
    view.note("a remark")
    view.update(training)
    training.state = "finished"
    view.stop(training)
    wait_until(lambda: not view.is_stuck, "the last state")
    sent = terminal.sent().decode()
    assert "a remark" in sent and sent.index("a remark") < sent.index("finished")


@pytest.mark.parametrize(
    ("file", "environment", "kind"),
    [
        (Terminal(), {}, LiveView),
        (Terminal("iso-8859-1"), {}, PlainView),
        (Terminal(), {"TERM": "dumb"}, PlainView),
        (Terminal(), {"TTY_INTERACTIVE": "0"}, PlainView),
        (io.StringIO(), {"FORCE_COLOR": "1"}, PlainView),
    ],
    ids=["terminal", "latin-1", "dumb", "not-interactive", "coloured-pipe"],
)
def test_only_a_terminal_that_can_redraw_has_the_live_view(colour_terminal, monkeypatch, file, environment, kind):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert isinstance(choose_view(Console(file=file))._view, kind)


def test_what_a_terminal_cannot_show_is_written_as_escapes(training, monkeypatch):
    terminal = Terminal("iso-8859-1")
    monkeypatch.setattr("sys.stdout", terminal)
    console = choose_console(json_output=False)
    view = choose_view(console)
    view.start()
    view.note("tag 水")
    view.stop(training)
    wait_until(lambda: not view.is_stuck, "the note")
    console.print("Try next: 水")
    sent = terminal.sent().decode("iso-8859-1")
    assert "note: tag \\u6c34" in sent and "Try next: \\u6c34" in sent


def test_the_object_at_the_end_is_written_with_escapes_too(monkeypatch):
    terminal = Terminal("iso-8859-1")
    monkeypatch.setattr("sys.stdout", terminal)
    choose_console(json_output=True)
    print(to_json({"run": "runs/水"}))
    assert json.loads(terminal.sent()) == {"run": "runs/水"}


def test_a_reader_that_left_is_an_error_and_not_the_end_of_the_process(monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    with contextlib.suppress(BrokenPipeError), os.fdopen(writing, "w") as pipe:  # closing it tries again
        monkeypatch.setattr("sys.stdout", pipe)
        with pytest.raises(BrokenPipeError):
            choose_console(json_output=False).print("x")


class Gate:
    """A view whose reader takes nothing until it is opened."""

    def __init__(self):
        self.opened, self.shown = threading.Event(), []

    def start(self):
        assert self.opened.wait(60)

    def update(self, snapshot, *, force=False):
        self.shown.append(snapshot.state)

    def note(self, text):
        self.shown.append(text)

    def stop(self, snapshot):
        self.shown.append(snapshot.state)


def test_nobody_waits_for_a_slow_reader_who_sees_the_last_state_and_is_told_what_was_dropped(training, monkeypatch):
    monkeypatch.setattr("launch.views._STOP_S", 0.01)
    gate = Gate()
    view = DetachedView(gate)
    view.start()
    for state in ("preparing", "training"):
        training.state = state
        view.update(training)
    for number in range(203):
        view.note(f"note {number}")
    training.state = "finished"
    view.stop(training)
    assert view.is_stuck and gate.shown == []
    gate.opened.set()
    wait_until(lambda: not view.is_stuck, "the last state")
    dropped = "further notes, dropped since they came faster than they were read: 3"
    assert gate.shown == [*(f"note {number}" for number in range(200)), dropped, "finished"]


def test_history_keeps_the_shape_of_a_long_series_in_bounded_memory():
    history = History()
    for value in range(100_000):
        history.add(float(value))
    assert len(history.points) <= 512
    assert history.points == sorted(history.points)
    assert history.points[0] < 1000
    assert history.points[-1] > 98_000


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0:00"), (59.6, "1:00"), (187, "3:07"), (3729, "1:02:09"), (math.inf, "-"), (math.nan, "-"), (-1, "-")],
)
def test_durations(seconds, shown):
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (1.5, "1.5"), (812.4, "812"), (9999, "9,999"), (45_600, "45.6 k"), (999_999, "1000 k"),
     (1.234e6, "1.23 M"), (2.5e9, "2.50 G"), (math.nan, "-")],
)  # fmt: skip
def test_rates(value, shown):
    assert rate(value) == shown


def test_shares_and_sparklines():
    assert share(0.0213) == "2.1%"
    assert sparkline([]) == ""
    assert sparkline([2.0] * 50, width=10) == "▁" * 10
    assert sparkline([3.0, 2.0, 1.0, 1.0], width=4) == "█▅▁▁"
    assert len(sparkline(list(map(float, range(7))), width=32)) == 7


def report(metrics, outputs, folder):
    console = Console(file=io.StringIO(), width=100)
    snapshot = Snapshot(run="runs/x", source="emoji", metrics=metrics, outputs=outputs)
    print_report(console, snapshot, folder / "runs" / "my run", "emoji")
    return console.file.getvalue()


def test_the_report_has_metrics_places_and_commands_that_can_be_pasted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gallery = str(tmp_path / "runs" / "my run" / "gallery.html")
    text = report({"test": TABLE, "twemoji": TABLE}, {"gallery": gallery, "example_tag": "l'eau"}, tmp_path)
    assert "test, 1,467 images" in text
    assert "twemoji, 1,467 images" in text
    assert "mAP (tags with 2 to 50 images)" in text
    assert "0.713" in text and "0.399" in text
    assert "runs/my run/gallery.html" in text
    assert f"{this_command()} search 'runs/my run' 'l'\"'\"'eau'" in text


def test_measures_without_a_name_are_the_tests():
    assert named_tables(TABLE) == {"test": TABLE}
    assert named_tables({**TABLE, "twemoji": TABLE}) == {"test": TABLE, "twemoji": TABLE}
    assert list(named_tables({"valid": TABLE, "test": TABLE})) == ["valid", "test"]
    assert named_tables({}) == {}


def test_without_a_known_tag_the_commands_need_none(tmp_path):
    commands = next_commands({"gallery": "gallery.html"}, tmp_path, "folder:/photos")
    assert [command.split()[-2] for command in commands] == ["evaluate", "status"]
    commands = next_commands({}, tmp_path, "folder:/photos")
    assert [command.split()[-2] for command in commands] == ["status"], "nothing is held out that could be evaluated"
    with_image = next_commands({"example_tag": "cat", "example_image": "a b.jpg"}, tmp_path, "folder:/photos")
    assert with_image[1].endswith(f"annotate {tmp_path} 'a b.jpg'")


def test_commands_are_spelled_as_this_program_was_called(tmp_path, monkeypatch):
    program = tmp_path / ".venv" / "bin" / "hybrid"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [str(program)])
    monkeypatch.setenv("PATH", "/usr/bin")
    assert resume_command(tmp_path / "runs" / "a") == ".venv/bin/hybrid train --resume runs/a"
    monkeypatch.setattr("sys.argv", [".venv/bin/hybrid"])
    assert this_command() == ".venv/bin/hybrid"
    monkeypatch.setenv("PATH", str(program.parent))
    assert this_command() == "hybrid"


def test_a_view_with_a_defect_is_logged_and_gives_the_terminal_back(training, caplog, monkeypatch):
    monkeypatch.setattr("launch.live.render", lambda *given: {}["nothing"])
    terminal = io.StringIO()
    view = DetachedView(LiveView(Console(file=terminal, force_terminal=True, width=100, height=30)))
    view.start()
    view.update(training)
    view.stop(training)
    wait_until(lambda: not view.is_stuck, "the view to give up")
    assert "has a defect" in caplog.text and "KeyError" in caplog.text
    assert terminal.getvalue().endswith("\x1b[?25h")
