"""What README and the report say is what the results say."""

import copy
import re
from pathlib import Path

import pytest

from benchmarks.gates import GATES, NOT_MEASURED, OK
from benchmarks.generated_parts import PARTS, fill, outside_parts
from benchmarks.measurement import Measurement
from benchmarks.record import RESULTS, Record, read_record
from benchmarks.report import DOCUMENTS, README, REPORT, report_of
from benchmarks.report_page import digest_of
from benchmarks.result_pages import page_of, read_records, write_pages
from benchmarks.verdicts import newest_verdicts, tally
from workers.errors import DataError

AGAIN = "run `make report`"
MEASURED = re.compile(
    r"(?<![\w.])(?:\d[\d,]*\.\d+|\.\d+|\d[\d,.]*\s?(?:%|(?:x|ns|ms|s|MiB|GiB|times|points|minutes|seconds|examples/s)\b))"
)
"""A number that somebody measured: with decimals, or with a unit."""


UNMEASURED = {
    "3.11": "a version of Python",
    "2.0": "a licence",
    "3.0": "a licence",
    "4.0": "a licence",
    "1.5": "minutes, of a command",
    "10 GiB": "quoted from a paper",
    "2510.11168": "that paper",
}
"""Numbers of this form that README may quote without a result, and what they are."""


@pytest.fixture(scope="module")
def records():
    return read_records()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_generated_parts_of_a_document_say_what_the_results_say(document, records):
    text = document.read_text()
    assert fill(text, records) == text, AGAIN


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_people_write_no_measured_figure_beside_the_generated_parts(document):
    prose = re.sub(r"```.*?```", "", outside_parts(document.read_text()), flags=re.DOTALL)
    assert set(MEASURED.findall(prose)) - set(UNMEASURED) == set(), "put figures into benchmarks/generated_parts.py"


@pytest.mark.parametrize("text", ["4.3 ms", "P@5 .733", "1,706 MiB", "0.4%", "takes 31 s", "1.2x", "up to 12 times"])
def test_measured_figures_are_recognised(text):
    assert MEASURED.search(text)


@pytest.mark.parametrize("text", ["P@5 and mAP", "two cores", "with 1, 2 and 4 workers", "`make bench`, step 3."])
def test_other_numbers_may_stand_in_prose(text):
    assert not MEASURED.search(text)


def test_every_part_is_shown_once():
    shown = [name for path in DOCUMENTS for name in re.findall(r"<!-- benchmark: (\w+) -->", path.read_text())]
    assert sorted(shown) == sorted(PARTS)


def test_a_changed_result_makes_what_shows_it_stale(records):
    changed = copy.deepcopy(dict(records))
    changed["head_memory"]["results"][0]["memory_bytes"]["Pss"] += 1 << 30
    changed["run_quality"]["results"][0]["tables"]["test"]["P@5"] += 0.1
    for document in DOCUMENTS:
        text = document.read_text()
        assert fill(text, changed) != text


def test_the_rivals_of_all_runs_are_in_the_table_of_verdicts(records):
    changed = copy.deepcopy(dict(records))
    rival = next(r for r in changed["gpu_only_draws"]["results"] if r["settings"]["kind"] != "hybrid")
    rival["points"][-1]["P@5"] = 0.987
    row = f"0.987 ({rival['contender']}, in a run of its own (gpu_only_draws)) | **behind** |"
    assert row in PARTS["rivals"](changed)
    changed["gpu_only_draws"]["settings"]["seconds"] *= 2
    assert "0.987" not in PARTS["rivals"](changed)


@pytest.mark.parametrize(
    ("part", "says"), [("no_such", "known are"), ("gpu_only", "no results hold"), ("head", "no results hold")]
)
def test_a_part_that_cannot_be_made_is_an_error(part, says):
    with pytest.raises(DataError, match=says):
        fill(f"<!-- benchmark: {part} -->\nold\n<!-- end -->", {})


def test_pages_beside_the_results_are_made_from_them(records):
    for name, record in records.items():
        assert page_of(name, record) == (RESULTS / f"{name}.md").read_text(), AGAIN


def test_the_report_was_made_from_these_results(records):
    assert f'content="{digest_of(records)}"' in REPORT.read_text(), AGAIN


@pytest.fixture
def folder(tmp_path):
    """Results of one made-up suite: a win, a loss, something that was not measured; and of one that draws itself."""
    record = Record("scaling", "Made up <suite>", {})
    record.add(Measurement("two_workers", GATES["two_workers"].what, "x", [1.9] * 9).as_json())
    record.add(Measurement("two_workers_hot", GATES["two_workers_hot"].what, "x", [0.7] * 9).as_json())
    record.add(Measurement.missing("step_1m_over_10k", "busy machine").as_json())
    record.write(tmp_path)
    other = Record("own", "Own page", {})
    other.add({"anything": 1})
    other.write(tmp_path)
    (tmp_path / "own.md").write_text("# Own page\n\n| a | b |\n| --- | ---: |\n| x | 1 |\n")
    (tmp_path / "own.svg").write_text('<?xml version="1.0"?>\n<svg id="drawn"></svg>')
    return tmp_path


def test_the_report_shows_losses_first_needs_nothing_beside_it_and_holds_every_result(folder):
    html = report_of(folder)
    rows = re.findall(r"<tr><td>(.*?)</td>.*?<b class=\"(\w+)\">", html)
    assert rows[0] == (GATES["two_workers_hot"].what.replace("'", "&#x27;"), "short")
    assert [verdict for _, verdict in rows[: len(GATES)]][-1] == "ok" and len(rows) == len(GATES)
    assert "Made up &lt;suite&gt;" in html and '<svg id="drawn">' in html and "<?xml" not in html
    assert not re.search(r"(?:src|href)=\"(?!#)", html.replace("xlink:href", "")), "the page is self-contained"
    assert "var(--short)" in html and "#01020" not in html


def test_pages_of_measurements_are_made_again_and_own_pages_stay(folder):
    write_pages(folder)
    assert "| short: 58% of the way |" in (folder / "scaling.md").read_text()
    assert (folder / "own.md").read_text().startswith("# Own page")
    (folder / "own.md").unlink()
    with pytest.raises(DataError, match="own"):
        write_pages(folder)


def test_the_newest_result_judges_a_gate(folder):
    old = read_record(folder / "scaling.json")
    new = copy.deepcopy(old) | {"written": "9999-01-01"}
    new["results"][0] |= {"value": 1.0, "verdict": NOT_MEASURED}
    for records in ([old, new], [new, old]):
        verdicts = {result["name"]: result["verdict"] for result in newest_verdicts(records)}
        assert verdicts["two_workers"] == NOT_MEASURED and len(verdicts) == len(GATES)
    assert {result["name"]: result["verdict"] for result in newest_verdicts([old])}["two_workers"] == OK
    assert tally(newest_verdicts([old])).startswith(f"{len(GATES)} gates: 1 reached, 1 missed")


def test_gates_that_are_reached_narrowly_are_said_to_be(folder):
    record = read_record(folder / "scaling.json")
    assert "may miss" not in PARTS["tally"]({"scaling": record})
    record["results"][0] |= {"value": 1.52, "verdict": OK}
    told = PARTS["tally"]({"scaling": record})
    assert "1 of those reached are within 6% of their gate: another run may miss them." in told
    assert "- missed: " in told and "wanted at least 1.2x" in told


def test_labels_of_the_plot_tell_gates_apart():
    labels = [gate.what.partition(":")[0] for gate in GATES.values()]
    assert len(set(labels)) == len(labels)


def test_the_makefile_names_what_readme_promises():
    makefile = (Path(README).parent / "Makefile").read_text()
    for target in ("bench-quick", "bench", "report"):
        assert f"\n{target}: setup ##" in makefile
