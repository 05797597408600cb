"""What README and the report say is what the results say."""

import copy
import re
from pathlib import Path

import pytest

from benchmarks.gates import GATES, NOT_MEASURED, OK, SHORT
from benchmarks.generated_parts import PARTS, fill, outside_parts
from benchmarks.measurement import Measurement
from benchmarks.record import RESULTS, Record, digest_of, machine_of, read_record
from benchmarks.report import DOCUMENTS, README, REPORT, report_of
from benchmarks.result_pages import folders_apart, page_of, read_records, write_pages
from benchmarks.result_plots import write_plots
from benchmarks.verdict_table import tally
from benchmarks.verdicts import newest_verdicts
from workers.errors import DataError

AGAIN = "run `make report`"
UNITS = (
    *("x", "ns", "us", "µs", "μs", "ms", "s", "seconds?", "min", "minutes?", "h", "hours?", "times", "points"),
    *("[kMGT]B", "[KMGT]iB", "(?:examples|images|pictures|rows|pairs|steps)/s"),
)
MEASURED = re.compile(rf"(?<![\w.])(?:\d[\d,]*\.\d+|\.\d+|\d[\d,.]*\s?(?:%|(?:{'|'.join(UNITS)})\b))")
"""A number that somebody measured: with decimals, or with a unit."""
UNMEASURED = (
    r"Python (?:>= )?3\.11",
    r"Apache-2\.0",
    r"CC-BY(?:-SA)?-4\.0",
    r"Unicode-3\.0",
    r"--minutes \d+\.\d+",
    r"7-10 GiB(?: \w+)? \(ELMO,\sarXiv\s2510\.11168\)",
)
"""Where documents may hold such a number without a result: versions, licences, a command, what a paper says."""
ONE_LOOK = re.compile(r"\bone(?:\s\w+)?\s+run\b(?:(?!\n\n).)*\n\n```\n.*?```", re.DOTALL)
"""A screen as it once looked: no claim, if the paragraph before it says that it shows one run."""


def measured_in(text):
    """Measured numbers that people wrote, code included."""
    for exempt in (ONE_LOOK, *UNMEASURED):
        text = re.sub(exempt, " ", text)
    return set(MEASURED.findall(text))


@pytest.fixture(scope="module")
def records():
    return read_records()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_generated_parts_of_a_document_say_what_the_results_say(document, records):
    text = document.read_text()
    assert fill(text, records) == text, AGAIN


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_people_write_no_measured_figure_beside_the_generated_parts(document):
    assert measured_in(outside_parts(document.read_text())) == set(), "put figures into benchmarks/generated_parts.py"


@pytest.mark.parametrize(
    "text",
    [
        *("4.3 ms", "P@5 .733", "1,706 MiB", "0.4%", "takes 31 s", "1.2x", "up to 12 times"),
        *("1.5x faster", "2.0% of the time", "4.0 ms", "3.0 points", "3.11 times", "fits into 10 GiB"),
        *("2 GB", "700 MB", "40 us", "40 µs", "10 min", "3 hours", "1,463 examples/s", "900 images/s", "261 rows/s"),
        "```python\nsteps = 3  # takes 12 s\n```",
    ],
)
def test_measured_figures_are_recognised(text):
    assert measured_in(text)


@pytest.mark.parametrize(
    "text",
    [
        *("P@5 and mAP", "two cores", "with 1, 2 and 4 workers", "`make bench`, step 3.", "on 2 hosts"),
        *("Python >= 3.11 and pip", "Developed with Python 3.11", "Apache-2.0", "CC-BY-4.0 or CC-BY-SA-4.0"),
        "`hybrid train --minutes 1.5`",
    ],
)
def test_other_numbers_may_stand_in_prose(text):
    assert measured_in(text) == set()


def test_a_screen_may_hold_figures_where_it_is_said_to_show_one_run():
    screen = "```\nexamples/s  1,463.5\n\nworker  6.3%\n```\n"
    assert measured_in(f"So one short run\nlooked:\n\n{screen}") == set()
    assert measured_in(f"So one run looked:\n\n{screen}It took 3 s.") == {"3 s"}
    for before in ("A run looks so:", "So one run looked.\n\nA run looks so:"):
        assert measured_in(f"{before}\n\n{screen}") == {"1,463.5", "6.3"}
    assert sum(len(ONE_LOOK.findall(outside_parts(document.read_text()))) for document in DOCUMENTS) <= 1


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
    more = copy.deepcopy(records["gpu_only"])
    rival = next(result for result in more["results"] if result["settings"]["kind"] != "hybrid")
    rival["points"][-1]["P@5"] = 0.987
    changed = {"gpu_only": records["gpu_only"], "gpu_only_more": more}
    row = f"0.987 ({rival['contender']}, in a run of its own (gpu_only_more)) | **behind** |"
    assert row in PARTS["rivals"](changed)
    more["settings"]["seconds"] *= 2
    assert "0.987" not in PARTS["rivals"](changed)


def test_a_run_under_other_conditions_says_that_no_verdict_counts_it(records):
    by_hand = copy.deepcopy(records["gpu_only"])
    shown = {"gpu_only": records["gpu_only"], "gpu_only_by_hand": by_hand}
    assert "no verdict counts it" not in PARTS["gpu_only_by_hand"](shown)
    for result in by_hand["results"]:
        result["final"]["items"] += 1
    assert "no verdict counts it" in PARTS["gpu_only_by_hand"](shown)


def final(kind, num_tags, p5, mean_ap):
    """The end of a training."""
    settings = {"kind": kind, "workers": int(kind == "hybrid"), "seed": 0}
    points = [{"P@5": p5, "mAP": mean_ap}]
    return {"contender": kind, "settings": settings, "num_tags": num_tags, "points": points, "final": {}}


def test_verdicts_are_said_in_a_sentence_for_each_measure():
    results = [
        *(final("hybrid", 10, 0.5, 0.2), final("dense", 10, 0.5, 0.3)),
        *(final("hybrid", 1000, 0.5, 0.3), final("dense", 1000, 0.51, 0.3), final("softmax", 1000, 0.1, 0.1)),
        *(final("hybrid", 2000, 0.5, 0.4), final("dense", 2000, 0.49, 0.3)),
    ]
    record = {"settings": {}, "machine": {}, "software": {"blas": []}, "results": results}
    assert PARTS["verdicts"]({"gpu_only": record}) == (
        "In P@5 the hybrid is level with the best rival at 10, 1,000 and 2,000 tags. In mAP the hybrid is ahead of the "
        "best rival at 2,000 tags, level with the best rival at 1,000 tags, behind the best rival at 10 tags."
    )
    assert "Not measured" in PARTS["verdicts"]({"gpu_only": record | {"results": results[:1]}})


@pytest.mark.parametrize(
    ("part", "says"), [("no_such", "known are"), ("gpu_only", "no results hold"), ("head", "no results hold")]
)
def test_a_part_that_cannot_be_made_is_an_error(part, says):
    with pytest.raises(DataError, match=says):
        fill(f"<!-- benchmark: {part} -->\nold\n<!-- end -->", {})


@pytest.mark.parametrize("folder", [RESULTS, *folders_apart(RESULTS)], ids=lambda path: path.name)
def test_pages_beside_the_results_are_made_from_them(folder):
    for name, record in read_records(folder).items():
        assert page_of(name, record, folder) == (folder / f"{name}.md").read_text(), AGAIN


def test_pages_name_the_interpreter_of_a_clone(records):
    assert all("\n`.venv/bin/python -m" in page_of(n, r) for n, r in records.items())


def test_every_page_has_a_maker(records, tmp_path):
    for name, record in records.items():
        assert page_of(name, record, tmp_path).startswith(f"# {record['title']}"), "none is left as it was once written"


def test_every_plot_was_drawn_from_the_results_beside_it(records):
    plots = list(RESULTS.glob("*.svg"))
    assert plots
    for plot in plots:
        assert digest_of(records[plot.stem]) in plot.read_text(), f"{plot.name}: {AGAIN}"


def waiting(tmp_path, *shares):
    """Records of a suite whose plot this project draws, with a result for each share of time waited."""
    record = Record("pipeline_efficiency", "Waiting", {})
    samples = {"worker_ms": 5.0, "trunk_ms": {"forward": 10.0, "ship": 1.0, "backward": 20.0}}
    for share in shares or (0.0,):
        record.add(Measurement("some", "what", "", [share] * 9 if shares else [], "", samples).as_json())
    record.write(tmp_path)
    return read_records(tmp_path)


def test_plots_are_drawn_again_when_results_change_and_only_then(tmp_path):
    plot, records = tmp_path / "pipeline_efficiency.svg", waiting(tmp_path, 0.1)
    write_plots(records, tmp_path)
    drawn = plot.read_bytes()
    write_plots(records, tmp_path)
    assert plot.read_bytes() == drawn and digest_of(records["pipeline_efficiency"]).encode() in drawn
    write_plots(waiting(tmp_path, 0.2), tmp_path)
    assert plot.read_bytes() != drawn
    write_plots(waiting(tmp_path), tmp_path)
    assert not plot.exists(), "a plot of other results would stand beside these"


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


def test_pages_of_another_machine_stand_beside_its_results(folder):
    apart = folder / "another"
    Record("scaling", "On another machine", {}).write(apart)
    (apart / "scaling.json").write_text((folder / "scaling.json").read_text())
    write_pages(folder)
    assert (apart / "scaling.md").read_text() == (folder / "scaling.md").read_text()


def test_the_page_of_a_suite_judges_by_the_gates_of_today_and_keeps_the_words_of_its_record(folder):
    record = read_record(folder / "scaling.json")
    assert "in the record" not in page_of("scaling", record, folder)
    first, _, third = record["results"]
    first |= {"gate": 9.0, "ambition": 99.0, "verdict": SHORT, "reason": "21% of the way", "what": "as it was called"}
    third |= {"gate": 9.0}
    page = page_of("scaling", record, folder)
    what = GATES["two_workers"].what
    assert f"| {what} | 1.9x | 1.9 to 1.9 | ≥ 1.5 | ≥ 1.85 | ok: reaches the ambition |" in page
    assert f"- {what} (in the record: as it was called)" in page and page.count("in the record:") == 1
    assert "| ≤ 2 | ≤ 1.4 | NOT MEASURED: busy machine |" in page


def test_the_newest_result_judges_a_gate(folder):
    old = read_record(folder / "scaling.json")
    new = copy.deepcopy(old) | {"written": "9999-01-01"}
    new["results"][0] |= {"value": 1.0, "verdict": NOT_MEASURED}
    for records in ([old, new], [new, old]):
        verdicts = {result["name"]: result["verdict"] for result in newest_verdicts(records)}
        assert verdicts["two_workers"] == NOT_MEASURED and len(verdicts) == len(GATES)
    assert {result["name"]: result["verdict"] for result in newest_verdicts([old])}["two_workers"] == OK
    assert tally(newest_verdicts([old])).startswith(f"{len(GATES)} gates: 1 reached, 1 missed")


def test_verdicts_are_by_the_gates_of_today(folder):
    old = read_record(folder / "scaling.json")
    old["results"][0] |= {"gate": 9.0, "verdict": SHORT, "reason": "21% of the way"}
    (again,) = (result for result in newest_verdicts([old]) if result["name"] == "two_workers")
    assert (again["verdict"], again["reason"], again["gate"]) == (OK, "reaches the ambition", 1.5)


def test_gates_that_were_measured_elsewhere_say_so(folder):
    record = read_record(folder / "scaling.json")
    kernels = copy.deepcopy(record) | {"name": "kernels", "results": []}
    kernels["software"] |= {"commit": "f" * 40}
    assert f"; by {(record['software']['commit'] or 'no commit')[:10]} |" in PARTS["gates"](
        {"scaling": record, "kernels": kernels}
    )
    alike = {"scaling": record, "kernels": kernels | {"software": record["software"]}}
    assert "; by " not in PARTS["gates"](alike) and ", on " not in PARTS["gates"](alike)
    alike["kernels"]["machine"] = record["machine"] | {"cores": 1024}
    assert f"; {machine_of(record)} |" in PARTS["gates"](alike)


def test_gates_that_are_reached_narrowly_are_said_to_be(folder):
    record = read_record(folder / "scaling.json")
    assert "may miss" not in PARTS["tally"]({"scaling": record})
    record["results"][0] |= {"value": 1.52, "verdict": OK}
    told = PARTS["tally"]({"scaling": record})
    assert "1 of those reached are within 12% of their gate: another run may miss them." in told
    assert "- missed: " in told and "wanted at least 1.2x" in told


@pytest.mark.parametrize(("judged", "reason"), [(2.86, ""), (3.5, "reaches the ambition; ")])
def test_a_gate_that_stronger_forms_of_the_rival_would_miss_names_them(tmp_path, judged, reason):
    record, gate = Record("peers", "Peers", {}), GATES["dense_bce_memory"]
    record.add(Measurement.value(gate.name, judged, "x").as_json())
    for form, ratio in (("SGD", 1.99), ("weaker", 9.0)):
        record.add(Measurement.value(f"{gate.name}, {form}", ratio, "x", f"the same against {form}").as_json())
    records = {"peers": read_record(record.write(tmp_path))}
    told = f"- reached, but not against every form of the rival: {gate.what}: {judged}x; 1.99x against SGD; "
    assert f"{told}wanted at least 2x" in PARTS["tally"](records)
    assert f"| ok: {reason}missed in other forms: 1.99x against SGD |" in PARTS["gates"](records)
    records["peers"]["results"][1]["value"] = 2.5
    assert "not against every form" not in PARTS["tally"](records)
    assert "missed in other forms" not in PARTS["gates"](records)


def test_labels_of_the_plot_tell_gates_apart():
    labels = [gate.what.partition(":")[0] for gate in GATES.values()]
    assert len(set(labels)) == len(labels)


def test_the_makefile_names_what_readme_promises():
    makefile = (Path(README).parent / "Makefile").read_text()
    for target in ("bench-quick", "bench", "report"):
        assert f"\n{target}: setup ##" in makefile
