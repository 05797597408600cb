"""How long a start takes: the stages of a real one, and the table."""

import pytest

from benchmarks.generated_parts import PARTS
from benchmarks.many_tags import write_folder
from benchmarks.start import LOOP, RUN, main, report_text, start_loop, start_run
from workers.errors import RunError

RECORD = {
    "title": "A start",
    "settings": {"workers": 2, "num_tags": 1000, "dim": 8},
    "results": [
        {"form": form, "ended_s": {first: 1.0 + i, last: seconds + i}}
        for i in range(3)
        for form, first, last, seconds in (
            (LOOP, "imports", "first step", 3.0),
            (RUN, "data", "trunk and workers", 4.5),
        )
    ],
    "command": "python -m benchmarks.start",
    "started": "today",
    "load_average_at_end": [0.0],
    "machine": {"cpu": "a CPU", "cores": 2, "gpu": None, "load_average": [0.0]},
    "software": {"commit": None, "is_modified": False, "versions": {"torch": "2"}, "blas": []},
}


@pytest.mark.slow
def test_the_stages_of_a_real_start_follow_each_other():
    ended_s = start_loop(num_tags=1000, dim=8, workers=1)
    assert list(ended_s) == ["imports", "workers", "optimizer", "first step"]
    assert ended_s["imports"] > 0 and list(ended_s.values()) == sorted(ended_s.values())


@pytest.mark.slow
def test_a_start_that_fails_says_why():
    with pytest.raises(RunError, match="rows of dim 3 cannot be float32"):
        start_loop(num_tags=1000, dim=3, workers=1)


@pytest.mark.slow
def test_a_real_run_is_started_and_ended(tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRID_CACHE", str(tmp_path / "of the user"))
    write_folder(tmp_path / "pictures", num_tags=3000)
    ended_s = start_run(tmp_path, num_tags=3000, dim=8, workers=1)
    assert list(ended_s) == ["launcher", "data", "tag matrix", "trunk and workers"]
    assert ended_s["launcher"] > 0 and list(ended_s.values()) == sorted(ended_s.values())
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "pictures"}
    with pytest.raises(RunError, match=r"knows 4,\d\d\d tags, not 9,000"):
        start_run(tmp_path, num_tags=9000, dim=8, workers=1)


@pytest.mark.slow
def test_a_run_that_fails_says_why(tmp_path):
    with pytest.raises(RunError, match="there is no such folder"):
        start_run(tmp_path, num_tags=1000, dim=8, workers=1)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [(["--rounds", "0"], "'0' is no whole number of at least 1"), (["--num-tags", "100"], "must be at least 128")],
)
def test_options_that_leave_nothing_to_measure_are_refused(wrong, says, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["start", *wrong])
    monkeypatch.setattr("benchmarks.start.restart_if_blas_is_forced", lambda: None)
    with pytest.raises(SystemExit):
        main()
    assert says in capsys.readouterr().err


def test_the_table_holds_medians_and_ranges():
    assert "|  | first step | 4.0 | 3.0 to 5.0 | ≤ 5 | ok |" in report_text(RECORD)
    assert f"| {LOOP} | imports | 2.0 | 1.0 to 3.0 |  |  |" in report_text(RECORD)
    assert f"| {RUN} | data | 2.0 | 1.0 to 3.0 |  |  |" in report_text(RECORD)
    assert "|  | trunk and workers | 5.5 | 4.5 to 6.5 | ≤ 5 | short |" in report_text(RECORD)
    assert f"{LOOP} 4.0 s (ok), {RUN} 5.5 s (short)" in PARTS["start"]({"start": RECORD})


@pytest.mark.parametrize(("seconds", "status", "word"), [(4.9, 0, "ok"), (5.1, 1, "short")])
def test_a_start_that_takes_too_long_fails(seconds, status, word, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["start", "--rounds", "2", "--results", str(tmp_path)])
    monkeypatch.setattr("benchmarks.start.restart_if_blas_is_forced", lambda: None)
    taken = iter([60.0, seconds, seconds])  # the first one, which may compile, does not count
    monkeypatch.setattr("benchmarks.start.write_folder", lambda *_: None)
    monkeypatch.setattr("benchmarks.start.start_loop", lambda *_: {"first step": 3.0})
    monkeypatch.setattr("benchmarks.start.start_run", lambda *_: {"first step": next(taken)})
    assert main() == status
    assert [line.split(" | ")[-1] for line in (tmp_path / "start.md").read_text().splitlines() if "≤" in line] == [
        "ok |",
        f"{word} |",
    ]
