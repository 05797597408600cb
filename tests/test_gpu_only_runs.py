"""Which runs the comparison with one process counts, and how its plot tells contenders apart."""

import sys
from types import SimpleNamespace

import pytest
from matplotlib import pyplot
from test_gpu_only import clean_record, results_of

from benchmarks import gpu_only, gpu_only_report, rival_verdicts
from benchmarks.record import read_record


@pytest.mark.parametrize(
    "change",
    [
        {"num_train_items": 12},
        {"final": {"items": 7}},
        {"data_fingerprint": "another"},
        {"memory": "by samples"},
        {"precision": "torch.bfloat16"},
        {"memory_tuning": {"MALLOC_A_": None}},
        {"num_tags": 10},
    ],
)
def test_rivals_of_other_runs_count_only_with_the_same_data_and_tuning_of_memory(change):
    (result,) = results_of({("dense", 0, 0): 0.5})
    result |= {"data_fingerprint": "one", "num_train_items": 11, "memory_tuning": {"MALLOC_A_": "1"}, "memory": "peaks"}
    result["precision"] = "torch.float32"
    result["final"] = {"items": 6}
    settings = {"settings": {"seconds": 240.0}}
    one, other = (clean_record().content | settings | {"results": [found]} for found in (result, {**result, **change}))
    assert rival_verdicts.elsewhere_of("gpu_only", {"gpu_only": one, "gpu_only_by_hand": other}) == {}
    older = {name: value for name, value in result.items() if name != "data_fingerprint"}
    records = {"gpu_only": one, "gpu_only_by_hand": other | {"results": [older, result | change]}}
    assert rival_verdicts.elsewhere_of("gpu_only", records) == {"gpu_only_by_hand": [older]}, "each result for itself"


def test_a_contender_has_one_colour_in_all_panels_and_its_name_in_the_legend_of_each_size():
    record = clean_record().content
    kinds = [("hybrid", 1, 0), ("dense", 0, 0), ("sampled", 0, 0), ("hybrid", 2, 0), ("hybrid", 2, 1)]
    for num_tags, draws, order in ((10, 64, kinds), (999, 256, kinds[::-1])):
        for result in results_of(dict.fromkeys(order, 0.5)):
            name = f"{result['contender']}, {draws}" if result["settings"]["kind"] == "sampled" else result["contender"]
            final = result["final"] | {"popularity": {"P@5": 0.3, "mAP": 0.1}}
            record["results"].append(result | {"num_tags": num_tags, "contender": name, "final": final})
    figure = gpu_only_report.plot_of(record)
    pyplot.close(figure)
    looks = [
        {
            line.get_label().removesuffix(", 64").removesuffix(", 256"): (line.get_color(), line.get_linestyle())
            for line in of_contenders(axis)
        }
        for axis in figure.axes
    ]
    assert len(looks) == 4 and all(look == looks[0] for look in looks)
    assert len(looks[0]) == len(set(looks[0].values())) == 4 and len({colour for colour, _ in looks[0].values()}) == 3
    for column, draws in enumerate((64, 256)):
        shown = [text.get_text() for text in figure.axes[2 + column].get_legend().get_texts()]
        assert len(shown) == len(set(shown)) == 5 and any(name.endswith(f", {draws}") for name in shown)


def of_contenders(axis):
    """Lines of a panel that the legend names, without popularity's; a further seed has no name of its own."""
    return [line for line in axis.get_lines() if line.get_label()[0] not in "_p"]


def test_what_a_run_took_is_in_its_record_and_told_against_the_limit(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu_only", "--results", str(tmp_path)])
    monkeypatch.setattr(gpu_only, "restart_if_blas_is_forced", lambda: None)
    monkeypatch.setattr(gpu_only, "plan", lambda _: {"curve": SimpleNamespace(origin="made up")})
    monkeypatch.setattr(gpu_only, "plan_text", lambda *_: "")
    monkeypatch.setattr(gpu_only, "run_in_process", lambda _: {})
    monkeypatch.setattr(gpu_only, "write_report", lambda _: ())
    monkeypatch.setattr(gpu_only, "print_pages", lambda *_: None)
    gpu_only.main()
    assert read_record(tmp_path / "gpu_only.json")["suite"]["program"] == "gpu_only"
    assert capsys.readouterr().out.splitlines()[-1] == "gpu_only took 0 s; 5,400 s are the limit."
