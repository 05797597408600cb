"""The comparison with one process: its plan, its continuation, its search for rates, its verdicts."""

import argparse
import json
import math
import statistics
from dataclasses import replace

import pytest

from benchmarks import gpu_only_report, rival_verdicts, row_lr_search
from benchmarks.curve_settings import DEFAULT_DRAWS, DRAWS, KINDS, ROW_LR, CurveSettings
from benchmarks.finished_curves import FinishedCurves
from benchmarks.generated_parts import PARTS
from benchmarks.gpu_only_plan import LIMIT_MINUTES, default_workers, minutes, plan, plan_text
from benchmarks.record import RESULTS, Record, read_record
from benchmarks.tuned_rates import search_files, searched_rates, tuned_rate
from workers.errors import DataError
from workers.settings import to_plain


def options(**changed):
    given = {f"{kind}_row_lr": None for kind in KINDS}
    defaults = {
        "seconds": 240.0,
        "tags": [10_000, 100_000, 0],
        "workers": [1, 8],
        "contenders": list(KINDS),
        "seeds": [0],
        "max_items": 0,
        "measurements": 6,
        "device": "cpu",
        "trunk": "cnn-small",
        "batch_size": 128,
        "row_lr_from": [],
    }
    return argparse.Namespace(**(defaults | given | changed))


def result_of(curve, p5=0.5, mean_ap=0.1):
    return {
        "contender": curve.name,
        "settings": to_plain(curve),
        "run_config": to_plain(curve.run_config),
        "num_tags": curve.max_tags or 999,
        "points": [{"seconds": 10.0, "P@5": p5, "mAP": mean_ap}],
        "final": {"P@5": p5, "mAP": mean_ap},
    }


def clean_record(name="gpu_only"):
    """A record as if made from a commit without changes, whatever the state of this checkout."""
    record = Record(name, "A title", {})
    record.content["software"] |= {"commit": "abc", "is_modified": False}
    return record


def test_the_default_plan_has_every_contender_on_every_size_within_its_limit():
    curves = list(plan(options()))
    assert all(len(default_workers(d, 128)) == 2 and default_workers(d, 128)[0] == 1 for d in ("cpu", "cuda"))
    assert {(c.max_tags, c.kind, c.workers) for c in curves} == {
        (tags, kind, workers)
        for tags in (10_000, 100_000, 0)
        for kind in KINDS
        for workers in ((1, 8) if kind == "hybrid" else (0,))
    }
    assert len(curves) == len(set(curves)) == 18
    assert [c.max_tags for c in curves] == sorted((c.max_tags for c in curves), key=[10_000, 100_000, 0].index)
    assert 18 * 4 < minutes(curves) <= LIMIT_MINUTES


def test_the_plan_says_rates_their_origin_and_the_time_that_is_left():
    planned = plan(options(tags=[10], workers=[2], softmax_row_lr=0.5))
    text = plan_text(planned, num_finished=1, missing=list(planned)[1:])
    assert "10 tags, seed 0, dense softmax in chunks: row learning rate 0.5 (given)" in text
    assert "hybrid, 2 workers: row learning rate 0.03 (not searched at this size); finished" in text
    assert "4 curves to train, 1 finished: about 19 minutes." in text
    assert "more than the 90" in plan_text(plan(options(seeds=[0, 1])), 0, list(plan(options(seeds=[0, 1]))))


@pytest.fixture
def cut_short(tmp_path):
    """The file of a benchmark that finished the first two curves of its plan."""
    planned, record = plan(options()), clean_record()
    for curve in list(planned)[:2]:
        record.add(result_of(curve))
    return planned, record.write(tmp_path)


def test_a_benchmark_goes_on_with_the_curves_that_are_missing(cut_short):
    planned, path = cut_short
    record = clean_record()
    finished = FinishedCurves(record, path, lambda curve: curve in planned)
    assert [curve for curve in planned if finished.get(curve)] == list(planned)[:2]
    assert len(finished) == 2 and record.content["results"] == read_record(path)["results"]
    assert record.content["continues"] == [read_record(path)["started"]]
    assert len(FinishedCurves(clean_record(), path.with_name("none.json"), lambda curve: True)) == 0


@pytest.mark.parametrize(
    ("part", "change", "said"),
    [
        ("software", {"commit": "def"}, "commit was 'def', now it is 'abc'"),
        ("software", {"is_modified": True}, "nobody knows whether the same code"),
        ("software", {"versions": {"torch": "0"}}, "versions was"),
        ("machine", {"cores": 1024}, "cores was 1024"),
        ("software", {"blas": [{"architecture": "another"}]}, "BLAS was 'another'"),
    ],
)
def test_curves_of_other_code_or_another_machine_are_refused_and_left_alone(cut_short, part, change, said):
    planned, path = cut_short
    content = json.loads(path.read_text())
    content[part] |= change
    path.write_text(json.dumps(content))
    before, record = path.read_bytes(), clean_record()
    with pytest.raises(DataError, match=said):
        FinishedCurves(record, path, lambda curve: curve in planned)
    assert record.content["results"] == [] and path.read_bytes() == before


def test_curves_of_other_settings_are_refused(cut_short):
    _, path = cut_short
    for other in (options(seconds=10.0), options(hybrid_row_lr=0.01)):
        planned = plan(other)
        with pytest.raises(DataError, match="does not belong here"):
            FinishedCurves(clean_record(), path, lambda curve, planned=planned: curve in planned)


def test_searched_rates_win_by_both_measures_together_and_only_at_their_size(tmp_path):
    record = clean_record("row_lr_search")
    record.content["settings"] = {"seconds": 1.0}
    for row_lr, p5, mean_ap in [(0.01, 0.40, 0.10), (0.03, 0.39, 0.15), (0.1, 0.45, 0.05)]:
        curve = CurveSettings(kind="dense", seconds=1.0, max_tags=10, row_lr=row_lr)
        record.add(result_of(curve, p5, mean_ap))
    failed = to_plain(CurveSettings(kind="dense", seconds=1.0, max_tags=10, row_lr=1.0))
    record.add({"contender": "dense BCE in chunks", "settings": failed, "final": None})
    path = record.write(tmp_path)
    searched = searched_rates([path], device="auto", max_items=0)
    assert searched == {("dense", 10): (0.03, DEFAULT_DRAWS)} and searched_rates([], device="auto", max_items=0) == {}
    assert searched_rates([path], device="cuda", max_items=0) == {}, "another device is another machine"
    assert searched_rates([path], device="auto", max_items=500) == {}, "a trial on few pictures finds other rates"
    rates = [tuned_rate("dense", 10, None, searched), tuned_rate("dense", 10, 0.7, searched)]
    assert [(rate.row_lr, rate.origin) for rate in rates] == [(0.03, "searched"), (0.7, "given")]
    assert tuned_rate("dense", 0, None, searched).row_lr == ROW_LR["dense"]
    assert "not searched" in tuned_rate("dense", 0, None, searched).origin
    table = row_lr_search.report_text(read_record(path))
    assert "| 10 tags, dense BCE in chunks | 0.400 / 0.100 | **0.390 / 0.150** | 0.450 / 0.050 | failed |" in table


def test_of_rates_that_tie_the_one_nearest_to_the_start_is_taken(tmp_path):
    record = clean_record("row_lr_search")
    for row_lr, p5 in [(0.003, 0.457), (0.03, 0.444), (0.1, 0.443), (0.3, 0.42)]:
        record.add(result_of(CurveSettings(kind="dense", seconds=1.0, max_tags=10, row_lr=row_lr), p5))
    found = searched_rates([record.write(tmp_path)], device="auto", max_items=0)
    assert found == {("dense", 10): (0.03, DEFAULT_DRAWS)}


def test_a_later_search_decides_about_what_it_searched_for_and_nothing_else(tmp_path):
    for name, started, kinds, row_lr in [
        ("row_lr_search", "2026-01-01T00:00:00+00:00", ("dense", "sampled"), 0.1),
        ("row_lr_search_again", "2026-01-02T00:00:00+00:00", ("sampled",), 0.3),
    ]:
        record = clean_record(name)
        for kind in kinds:
            record.add(result_of(CurveSettings(kind=kind, seconds=1.0, max_tags=10, row_lr=row_lr)))
        path = record.write(tmp_path)
        path.write_text(json.dumps(json.loads(path.read_text()) | {"started": started}))
    files = search_files(tmp_path)
    assert [path.stem for path in files] == ["row_lr_search", "row_lr_search_again"]
    found = searched_rates(files, device="auto", max_items=0)
    assert {key: row_lr for key, (row_lr, _) in found.items()} == {("dense", 10): 0.1, ("sampled", 10): 0.3}


def test_a_rival_that_may_choose_its_draws_trains_with_those_that_scored_best(tmp_path):
    record, few = clean_record("row_lr_search"), DRAWS["sampled"][1]
    trial = CurveSettings(kind="sampled", seconds=1.0, max_tags=10, device="cpu")
    for draws, p5 in [(DEFAULT_DRAWS, 0.4), (few, 0.5)]:
        record.add(result_of(replace(trial, positives=draws[0], negatives=draws[1]), p5))
    unsaid = result_of(replace(trial, row_lr=0.7), 0.9)
    del unsaid["settings"]["positives"], unsaid["settings"]["negatives"]
    record.add(unsaid)
    (curve,) = plan(options(tags=[10], contenders=["sampled"], row_lr_from=[record.write(tmp_path)]))
    assert (curve.positives, curve.negatives) == few and curve.row_lr == 0.03
    assert curve.name == "torch sampled, 64 + 1,024 draws"
    assert curve.run_config.train.positives == 64 and curve.run_config.head.negatives == 1024
    (given,) = plan(options(tags=[10], contenders=["sampled"], sampled_draws=[5, 50]))
    assert (given.positives, given.negatives) == (5, 50)


def test_a_hybrid_trial_with_the_draws_of_other_defaults_decides_nothing(tmp_path):
    record, trial = clean_record("row_lr_search"), CurveSettings(kind="hybrid", workers=2, seconds=1.0, max_tags=10)
    record.add(result_of(replace(trial, row_lr=0.1), 0.4))
    record.add(result_of(replace(trial, row_lr=0.3, positives=64, negatives=1024), 0.9))
    found = searched_rates([record.write(tmp_path)], device="auto", max_items=0)
    assert found == {("hybrid", 10): (0.1, DEFAULT_DRAWS)}


def test_a_hybrid_trial_on_a_card_counts_with_the_chunks_of_a_card(tmp_path):
    trial = CurveSettings(kind="hybrid", workers=8, seconds=1.0, max_tags=10, device="cuda", row_lr=0.3)
    record = clean_record("row_lr_search")
    record.add(result_of(trial, 0.9))
    record.add(result_of(replace(trial.with_chunks_of_a_run(), row_lr=0.1), 0.4))
    found = searched_rates([record.write(tmp_path)], device="cuda", max_items=0)
    assert found == {("hybrid", 10): (0.1, (256, 2048))}


def test_a_search_on_a_card_goes_on_after_trials_of_the_hybrid():
    base = CurveSettings(kind="dense", seconds=1.0, device="cuda")
    trial = replace(base, kind="hybrid", workers=8, max_tags=10, row_lr=0.1).with_chunks_of_a_run()
    assert trial.chunk_size != base.chunk_size and row_lr_search._is_trial(trial, base)
    assert not row_lr_search._is_trial(replace(trial, seconds=2.0), base)


@pytest.mark.parametrize("best", row_lr_search.RATES)
@pytest.mark.parametrize("start", [ROW_LR["dense"], 0.1])
def test_the_search_climbs_to_a_rate_whose_neighbours_are_worse(best, start):
    tried = []

    def trial(row_lr):
        tried.append(row_lr)
        return -abs(math.log(row_lr / best))

    assert row_lr_search.search(trial, start) == best
    assert len(tried) == len(set(tried)) and start in tried
    steps = abs(row_lr_search.RATES.index(best) - row_lr_search.RATES.index(start))
    assert len(tried) <= 3 + steps, "nothing is tried beyond the neighbours of the path"


def test_a_search_in_which_every_trial_fails_finds_nothing():
    tried = []
    assert row_lr_search.search(lambda row_lr: tried.append(row_lr) or -math.inf, 0.1) is None
    assert len(tried) == 3


def test_a_search_ends_where_all_other_rates_fail():
    assert row_lr_search.search(lambda row_lr: 0.5 if row_lr == 0.1 else -math.inf, 0.1) == 0.1


def results_of(finals):
    """Results by kind, workers: P@5."""
    return [
        result_of(CurveSettings(kind=kind, workers=workers, seconds=1.0, seed=seed), p5=p5)
        for (kind, workers, seed), p5 in finals.items()
    ]


@pytest.mark.parametrize(("ours", "word"), [(0.532, "ahead"), (0.528, "level"), (0.472, "level"), (0.468, "behind")])
def test_small_differences_are_level_and_losses_are_called_so(ours, word):
    results = results_of(
        {("hybrid", 1, 0): ours - 0.1, ("hybrid", 2, 0): ours + 0.1, ("dense", 0, 0): 0.5, ("sampled", 0, 0): 0.2}
    )
    verdict = rival_verdicts.verdicts(999, results)[0]
    assert (verdict.measure, verdict.word) == ("P@5", word)
    assert verdict.ours == ("hybrid, mean of 1 and 2 workers", pytest.approx(ours))
    assert verdict.theirs == ("dense BCE in chunks", 0.5)


def test_seeds_are_averaged_before_the_best_is_chosen():
    results = results_of({("hybrid", 1, 0): 0.5, ("dense", 0, 0): 0.9, ("dense", 0, 1): 0.1, ("sampled", 0, 0): 0.6})
    assert rival_verdicts.verdicts(999, results)[0].theirs == ("torch sampled, 256 + 4,096 draws", 0.6)
    assert rival_verdicts.verdicts(999, results[1:]) == []


def test_the_best_rival_may_come_from_a_run_of_its_own_and_is_called_so():
    here = results_of({("hybrid", 1, 0): 0.6, ("hybrid", 1, 1): 0.4, ("sampled", 0, 0): 0.45})
    there = results_of({("hybrid", 2, 0): 0.9, ("sampled", 0, 0): 0.55})
    for result, num_tags in [(there[0], 999), (there[1], 10)]:
        verdict = rival_verdicts.verdicts(999, here, {"gpu_only_more": [result | {"num_tags": num_tags}]})[0]
        assert verdict.theirs[1] == 0.45, "neither hybrids of other runs nor other sizes are rivals"
    verdict = rival_verdicts.verdicts(999, here, {"gpu_only_more": there})[0]
    assert verdict.theirs == ("torch sampled, 256 + 4,096 draws, in a run of its own (gpu_only_more)", 0.55)
    assert verdict.ours == ("hybrid, 1 worker", 0.5) and verdict.word == "behind"


def test_rivals_of_other_runs_count_only_under_the_same_conditions():
    results = results_of({("dense", 0, 0): 0.5})
    one = clean_record().content | {"settings": {"seconds": 240.0}, "results": results}
    longer, faster = one | {"settings": {"seconds": 480.0}}, one | {"machine": one["machine"] | {"cores": 1024}}
    wider = one | {"software": one["software"] | {"blas": [{"architecture": "another"}]}}
    records = {"gpu_only": one, "gpu_only_more": one, "start": one, "gpu_only_b": longer, "gpu_only_c": faster}
    records["gpu_only_d"] = wider  # cores of another generation may have the same name
    assert rival_verdicts.elsewhere_of("gpu_only", records) == {"gpu_only_more": results}


def test_level_is_about_two_deviations_of_runs_that_differ_by_luck():
    results = read_record(RESULTS / "worker_quality.json")["results"]
    for measure in rival_verdicts.JUDGED:
        deviation = statistics.stdev(result["final"][measure] for result in results) * 2**0.5
        assert 1.5 * deviation <= rival_verdicts.LEVEL[measure] <= 3 * deviation


def test_the_page_begins_with_who_is_ahead_and_marks_rates_that_nobody_searched(tmp_path):
    record = clean_record()
    for result in results_of({("hybrid", 1, 0): 0.4, ("dense", 0, 0): 0.5, ("softmax", 0, 0): 0.39}):
        shown = {
            "device": "cpu",
            "precision": "torch.float32",
            "trunk_threads": 2,
            "examples_per_s": 1.0,
            "step_ms": {"median": 1.0, "p90": 1.0},
            "phase_ms": {"forward": 0.25, "backward": 0.5},
            "memory_bytes": {"Pss": 1 << 20},
            "memory_tuning": {"MALLOC_A_": "1", "MALLOC_B_": None},
            "gpu_memory_bytes": None,
            "row_lr_origin": "searched" if result["settings"]["kind"] == "hybrid" else "not searched at this size",
        }
        record.add(result | shown | {"final": result["final"] | {"popularity": {"P@5": 0.3, "mAP": 0.1}}})
    written = read_record(record.write(tmp_path))
    text = gpu_only_report.report_text(written)
    assert "Every contender ran with MALLOC_A_=1. " in text
    elsewhere = {"gpu_only_more": results_of({("sampled", 0, 0): 0.6})}
    assert "| 0.600 (torch sampled, 256 + 4,096 draws, in a run of its own (gpu_only_more)) | -20.0 |" in (
        gpu_only_report.report_text(written, elsewhere)
    )
    assert "| 999 tags, P@5 | 0.400 (hybrid, 1 worker) | 0.500 (dense BCE in chunks) | -10.0 | **behind** |" in text
    assert text.index("**behind**") < text.index("## 999 tags")
    assert "| hybrid, 1 worker | 0.03 |" in text and "| dense BCE in chunks | 0.03* |" in text
    assert "behind / level |" in text and "level / level |" in text and "*: not searched at this size" in text


def test_trainings_with_other_rates_or_draws_than_the_search_chose_are_named():
    def result(kind, row_lr, draws=DEFAULT_DRAWS, p5=0.5):
        trial = CurveSettings(kind=kind, seconds=1.0, max_tags=10, row_lr=row_lr, positives=draws[0], device="cpu")
        return result_of(replace(trial, negatives=draws[1]), p5)

    few = DRAWS["sampled"][1]
    search = {"results": [result("dense", 0.03), result("dense", 0.1, p5=0.6), result("sampled", 0.03, few)]}
    made = {"results": [result("dense", 0.1), result("sampled", 0.03, few), result("softmax", 0.3)]}
    records = {"row_lr_search": search, "gpu_only": made, "gpu_only_by_hand": {"results": []}}
    assert PARTS["row_lr"](records) == "All 3 were trained with what this search chose."
    made["results"] += [result("dense", 0.03), result("sampled", 0.1)]
    assert PARTS["row_lr"](records).splitlines()[2:] == [
        "- dense BCE in chunks at 10 tags: 0.1, trained with 0.03",
        "- torch sampled at 10 tags: 0.03 with 64 + 1,024 draws, trained with 0.1 with 256 + 4,096 draws",
    ]
