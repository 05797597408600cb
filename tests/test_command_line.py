"""Wrong options of benchmarks are told in a line, before anything starts; so is what went wrong later."""

import importlib

import pytest
from test_layering import modules

from benchmarks import curve_process
from benchmarks.command_line import run_program
from workers.errors import ConfigError, RunError

CHILDREN = {"contestant", "first_step", "memory_trial", "rivals.fasttext_supervised"}
"""Started by a benchmark, which reads what they print; their imports are measured, or their libraries are their own."""


@pytest.fixture
def status_of(tmp_path, monkeypatch, capsys):
    """Runs a benchmark with options, from a folder of the test's: its exit status, and what it says at last."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.executable", "/a/child/was/started")

    def run(name, *options):
        module = importlib.import_module(f"benchmarks.{name}")
        for restart in ("restart_if_blas_is_forced", "restart_with_one_thread"):
            monkeypatch.setattr(module, restart, lambda: None, raising=False)
        monkeypatch.setattr("sys.argv", [name, *options])
        with pytest.raises(SystemExit) as ended:
            run_program(module.main)
        told = capsys.readouterr().err
        assert "Traceback" not in told
        return ended.value.code, told.splitlines()[-1]

    return run


@pytest.mark.parametrize(
    ("name", "option", "status", "says"),
    [
        ("step_scaling", "--trunk nope", 2, "trunk.factory = 'nope'"),
        ("step_scaling", "--trunk no_module:nope", 2, "'no_module:nope' cannot be imported"),
        ("step_scaling", "--workers 0", 2, "argument --workers: '0' is no whole number of at least 1"),
        ("step_scaling", "--steps 0", 2, "argument --steps: '0'"),
        ("step_scaling", "--dim 3", 2, "trunk.dim = 3"),
        ("gpu_only", "--row-lr-from /nope.json", 1, "/nope.json holds no results"),
        ("gpu_only", "--trunk nope", 2, "trunk.factory = 'nope'"),
        ("gpu_only", "--trunk no_module:nope", 2, "'no_module:nope' cannot be imported"),
        ("gpu_only", "--hybrid-row-lr 0", 2, "argument --hybrid-row-lr: '0' is no number above 0"),
        ("gpu_only", "--tags -1", 2, "argument --tags: '-1' is no whole number of at least 0"),
        ("worker_quality", "--workers 1 0", 2, "argument --workers: '0'"),
        ("worker_quality", "--epochs nan", 2, "argument --epochs: 'nan' is no number above 0"),
        ("auto_negatives", "--minutes inf", 2, "argument --minutes: 'inf'"),
        ("run_quality", "foo", 2, "'foo' is not NAME=RUN"),
        ("run_quality", "emoji=nowhere", 1, "nowhere"),
        ("suite", "draws --max-tags 0", 2, "argument --max-tags: '0'"),
        ("suite", "draws --rounds 1.5", 2, "argument --rounds: '1.5'"),
        ("suite", "draws --round-s x", 2, "argument --round-s: 'x'"),
        ("memory_limits", "--limit-gib 0", 2, "argument --limit-gib: '0'"),
        ("memory_limits", "--step 0", 2, "argument --step: '0'"),
        ("head_scaling", "--rounds 0", 2, "argument --rounds: '0'"),
        ("head_memory", "--tags 0", 2, "argument --tags: '0'"),
        ("pipeline_plot", "no.json", 1, "no.json holds no results"),
        ("gpu_only_report", "no.json", 1, "no.json holds no results"),
    ],
)
def test_wrong_options_are_told_before_a_child_starts(name, option, status, says, status_of, tmp_path):
    results = [] if name in ("run_quality", "pipeline_plot", "gpu_only_report") else ["--results", str(tmp_path)]
    code, told = status_of(name, *option.split(), *results)
    assert code == status and says in told


@pytest.mark.parametrize("name", ["gpu_only", "step_scaling", "start", "head_scaling", "suite"])
def test_a_folder_that_takes_no_results_is_told_before_anything_is_measured(name, status_of, tmp_path):
    (tmp_path / "file").touch()
    suite = ["draws"] if name == "suite" else []
    code, told = status_of(name, *suite, "--results", str(tmp_path / "file" / "results"))
    assert code in (1, 2) and "takes no results" in told


@pytest.mark.parametrize(("error", "status"), [(RunError("it ended"), 1), (ConfigError("it cannot be"), 2)])
def test_an_error_of_ours_is_a_line_and_any_other_a_traceback(error, status, capsys):
    def fail(error):
        raise error

    with pytest.raises(SystemExit) as ended:
        run_program(lambda: fail(error))
    assert ended.value.code == status and capsys.readouterr().err == f"Error: {error}\n"
    with pytest.raises(KeyError):
        run_program(lambda: fail(KeyError("a defect")))


@pytest.mark.parametrize("returned", [0, 1, None])
def test_a_program_ends_with_the_status_of_its_main(returned):
    with pytest.raises(SystemExit) as ended:
        run_program(lambda: returned)
    assert ended.value.code == returned


def test_every_benchmark_ends_so():
    programs = {name: path.read_text() for name, path in modules().items() if name.startswith("benchmarks")}
    ends = {n.removeprefix("benchmarks."): "run_program(main)" in t for n, t in programs.items() if '"__main__"' in t}
    assert len(ends) > 10 and {name for name, is_so in ends.items() if not is_so} == CHILDREN


def test_a_training_that_cannot_be_is_refused_though_it_is_the_last(monkeypatch):
    good = curve_process.CurveSettings(kind="dense", seconds=1.0)
    bad = curve_process.CurveSettings(kind="dense", seconds=1.0, dim=3)
    curve_process.check_curves([good, good])
    with pytest.raises(ConfigError, match=r"trunk\.dim"):
        curve_process.check_curves([good, bad])
