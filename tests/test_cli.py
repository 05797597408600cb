"""The command line: help, suggestions, what verbs pass on, and how fast it can answer at all."""

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner
from scripted_trunk import ROOT, launcher_command, launcher_environment, run_launcher

import launch.installation
from launch.cli import main
from launch.config import RunConfig, TrunkConfig
from launch.run_record import RunRecord, write_record
from launch.runs import create_run

VERBS = ("train", "status", "scale", "stop", "evaluate", "annotate", "search", "neighbours", "data")
TRAIN_FLAGS = [
    "--data",
    "--workers",
    "--dim",
    "--batch-size",
    "--microbatches",
    "--negatives",
    "--private-negatives",
    "--positives",
    "--alpha",
    "--objective",
    "--row-optimizer",
    "--row-lr",
    "--lr",
    "--epochs",
    "--minutes",
    "--image-size",
    "--device",
    "--trunk",
    "--trunk-threads",
    "--seed",
    "--run-dir",
    "--resume",
    "--config",
    "--set",
    "--hold-out-design",
    "--hold-out",
    "--min-count",
    "--max-tags",
    "--max-norm",
    "--tag-loss-weight",
    "--negative-weight",
    "--max-items",
    "--json",
]


def invoke(*arguments):
    return CliRunner().invoke(main, arguments, prog_name="hybrid")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A finished run under tmp_path/runs, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    directory = create_run(RunConfig(), None, now=0.0)
    write_record(directory, RunRecord(pid=1, control="ipc:///nowhere", started=1.0, state="finished"))
    return directory


def test_help_lists_every_verb_with_examples():
    shown = invoke("--help").output
    assert all(f"  {verb} " in shown for verb in VERBS)
    assert "hybrid search last" in shown


def test_every_verb_has_help_with_an_example():
    for words in (*((verb,) for verb in VERBS if verb != "data"), ("data", "prepare"), ("data", "stats")):
        result = invoke(*words, "--help")
        assert result.exit_code == 0
        assert f"hybrid {' '.join(words)}" in result.output.split("Examples:")[1]


def test_train_has_every_named_option():
    shown = invoke("train", "--help").output.split()
    assert [flag for flag in TRAIN_FLAGS if flag not in shown] == []


def test_help_shows_auto_as_it_must_be_written():
    assert "--negatives INTEGER|auto" in invoke("train", "--help").output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["trian"], "Did you mean 'train'?"),
        (["neighbors", "last", "x"], "Did you mean 'neighbours'?"),
        (["train", "--wokers", "3"], "Did you mean '--workers'?"),
        (["train", "--minuts", "3"], "No such option '--minuts'. Did you mean '--minutes'?"),
        (["train", "--set", "train.lrr=1"], "did you mean 'train.lr'"),
        (["data", "prep", "emoji"], "Did you mean 'prepare'?"),
        (["data", "prepare", "emojis"], "emoji or folder:PATH"),
        (["train", "--hold-out", "0.1"], "(--hold-out) applies to data of a folder alone, but data.source = 'emoji'"),
        (["train", "--hold-out", "0.2"], "(--hold-out) applies"),
        (["train", "--set", "data.hold_out_fraction=0.1"], "(--hold-out) applies"),
        (
            ["train", "--data", "folder:.", "--hold-out-design", "noto"],
            "(--hold-out-design) applies to emoji data alone",
        ),
        (["data", "stats", "emoji", "--hold-out", "0.1"], "(--hold-out) applies"),
        (["train", "--minutes", "0"], "train.minutes = 0.0, but it must be positive"),
        (["train", "--negatives", "many"], "'many' is neither a whole number nor 'auto'"),
        (["train", "--negatives", "auto", "--microbatches", "1"], "at least 2 with train.auto_negatives"),
        (["train", "--device", "gpu"], "one of auto, cpu, cuda, or one of several"),
        (["train", "--trunk", "resnet"], "one of cnn-small, resnet18, or module:factory; did you mean 'resnet18'?\n"),
        (["train", "--hold-out-design", "twemojis"], "did you mean 'twemoji'?\n"),
        (["data", "stats", "emoji", "--hold-out-design", "note"], "did you mean 'noto'?"),
        (["train", "--data", "folder:"], "folder:PATH with a path that is not empty"),
        (["data", "prepare", "folder:"], "folder:PATH with a path that is not empty"),
        (["evaluate", "last", "--map-least", "10", "--map-most", "5"], "--map-least 10 is more than --map-most 5"),
        (["scale", "last", "0"], "1<=x<=256"),
        (["neighbours", "last", "x", "-k", "10000000"], "10000000 is not in the range 1<=x<=10000"),
        (["search", "last", "x", "-k", "10001"], "1<=x<=10000"),
        (["search", "last", ""], "WORDS are empty"),
        (["search", "last", "x", "--png", "w.html"], "'w.html' does not end in .png."),
        (["search", "last", "x", "--html", "w.png"], "'w.png' does not end in .html or .htm."),
        (["annotate", "last", "x.png", "-k", "0"], "1<=x<=10000"),
        (["train", "--resume", "last", "--run-dir", "x"], "leave out --run-dir"),
    ],
)
def test_mistakes_are_explained_with_status_2(run, arguments, told):
    result = invoke(*arguments)
    assert told in result.output
    assert result.exit_code == 2


def test_a_mistaken_setting_leaves_no_run_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert invoke("train", "--dim", "7").exit_code == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--data", "--cache-dir", "--run-dir"])
def test_a_path_that_is_not_utf8_is_refused_before_anything_is_made(tmp_path, monkeypatch, option):
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(b"caf\xe9")
    result = invoke("train", option, f"folder:{name}" if option == "--data" else name)
    assert result.exit_code == 2 and "must be UTF-8" in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("card", ["cuda", "cuda:1"])
def test_a_card_that_the_installed_torch_cannot_use_is_refused_before_anything_is_made(tmp_path, monkeypatch, card):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch.installation, "torch_build", lambda: "cpu")
    result = invoke("train", "--device", card)
    assert result.exit_code == 2 and f"trunk.device = {card!r}, but" in result.output
    assert "was built for the CPU alone. Use --device cpu" in result.output
    assert list(tmp_path.iterdir()) == []
    launch.installation.check_device(RunConfig())
    monkeypatch.setattr(launch.installation, "torch_build", lambda: "cu130")
    launch.installation.check_device(RunConfig(trunk=TrunkConfig(device=card)))  # torch itself will tell


@pytest.mark.parametrize("factory", ["nowhere_to_be_found:make", "nowhere.deep.inside:make", ".x:make"])
def test_a_trunk_whose_module_is_nowhere_is_refused_before_anything_is_made(tmp_path, monkeypatch, factory):
    monkeypatch.chdir(tmp_path)
    result = invoke("train", "--trunk", factory)
    assert result.exit_code == 2 and f"trunk.factory = {factory!r} cannot be imported" in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("factory", ["cnn-small", "mine:make", "parts.mine:make", "json:loads"])
def test_a_trunk_whose_module_may_be_there_is_left_to_its_own_process(tmp_path, monkeypatch, factory):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parts").mkdir()
    for path in ("mine.py", "parts/__init__.py"):
        (tmp_path / path).write_text("raise SystemExit('imported')")
    launch.installation.check_trunk(RunConfig(trunk=TrunkConfig(factory=factory)))
    assert not {"mine", "parts"} & set(sys.modules)


@pytest.mark.parametrize("verb", [("train",), ("evaluate", "last"), ("annotate", "last", "a.png")])
def test_a_device_that_has_no_such_name_is_refused_with_those_that_have(run, verb):
    result = invoke(*verb, "--device", "cuda:first")
    assert result.exit_code == 2
    assert "device = 'cuda:first', but it must be one of auto, cpu, cuda, or one of several" in " ".join(
        result.output.split()
    )


def test_version():
    assert invoke("--version").output.startswith("hybrid, version ")


def test_loading_the_command_line_loads_nothing_heavy():
    heavy = "'numpy', 'numba', 'torch', 'rich', 'zmq', 'scipy', 'faiss', 'hybrid'"
    code = f"import sys, launch.cli; print([name for name in ({heavy},) if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "called"),
    [
        (
            ["evaluate", "last", "--json"],
            ["evaluate", "--score", "probability", "--map-least", "2", "--map-most", "50", "--json", "--", "{run}"],
        ),
        (
            ["evaluate", "last", "--device", "cpu"],
            [
                "evaluate",
                "--score",
                "probability",
                "--map-least",
                "2",
                "--map-most",
                "50",
                "--device",
                "cpu",
                "--",
                "{run}",
            ],
        ),
        (
            ["annotate", "last", "a.png", "b.png", "-k", "3", "--device", "cuda:1"],
            ["annotate", "--k", "3", "--score", "probability", "--device", "cuda:1", "--", "{run}", "a.png", "b.png"],
        ),
        (
            ["search", "last", "happy cat", "-k", "2", "--html", "h.html", "--png", "p.png", "--json"],
            ["search", "--k", "2", "--html", "h.html", "--png", "p.png", "--json", "--", "{run}", "happy cat"],
        ),
        (["search", "{run}", "hat", "--variants"], ["search", "--k", "12", "--variants", "--", "{run}", "hat"]),
        (["neighbours", "{run}", "--", "-tag"], ["neighbours", "--k", "10", "--", "{run}", "-tag"]),
        (["data", "prepare", "emoji", "--image-size", "32"], ["data-prepare", "--image-size", "32", "--", "emoji"]),
        (
            [
                "data",
                "stats",
                "emoji",
                "--hold-out-design",
                "twemoji",
                "--cache-dir",
                "c",
                "--json",
            ],
            [
                "data-stats",
                "--cache-dir",
                "{cwd}/c",
                "--hold-out-design",
                "twemoji",
                "--json",
                "--",
                "emoji",
            ],
        ),
        (
            ["data", "stats", "folder:{cwd}", "--hold-out", "0.1"],
            ["data-stats", "--hold-out", "0.1", "--", "folder:{cwd}"],
        ),
    ],
)
def test_deep_verbs_are_passed_on(run, arguments, called):
    cwd = run.parent.parent
    fill = {"run": str(run), "cwd": str(cwd)}
    result = run_launcher(cwd, *(word.format(**fill) for word in arguments))
    assert json.loads(result.stdout) == {"called": [word.format(**fill) for word in called]}
    assert result.returncode == 0


@pytest.mark.parametrize(("exported", "used"), [("", "{cwd}/c"), ("/elsewhere", "/elsewhere")])
def test_kernels_lie_where_cache_dir_says_unless_the_environment_says_it(run, monkeypatch, exported, used):
    places = []

    def see(*arguments, **options):
        places.append(os.environ["HYBRID_CACHE"])
        return 0

    monkeypatch.setenv("HYBRID_CACHE", exported)
    monkeypatch.setattr("launch.train.train", see)
    assert invoke("train", "--cache-dir", "c", "--run-dir", "fresh").exit_code == 0
    monkeypatch.setenv("HYBRID_CACHE", exported)
    monkeypatch.setattr("launch.deep_verb.os.execve", see)
    invoke("neighbours", "fresh", "a tag")
    assert places == [used.format(cwd=run.parent.parent)] * 2


def test_the_exit_status_of_a_deep_verb_is_kept(run):
    assert run_launcher(run.parent.parent, "neighbours", "last", "fail").returncode == 7


SHOW = "import hybrid.verbs; hybrid.verbs._show(lambda: ['table'], {'a': 1}, json_output={})"


@pytest.mark.parametrize(
    "command",
    [
        launcher_command("status", "last"),
        launcher_command("status", "last", "--json"),
        launcher_command("--help"),
        [sys.executable, "-c", SHOW.replace("{}", "True")],
        [sys.executable, "-u", "-c", SHOW.replace("{}", "False")],
    ],
    ids=["status", "status-json", "help", "deep-json", "deep-table"],
)
def test_an_output_that_takes_no_more_is_one_line_of_error(run, command):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        result = subprocess.run(
            command, cwd=run.parent.parent, env=launcher_environment(), stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert result.stderr == "Error: the output cannot be written: No space left on device.\n"
    assert result.returncode == 1


def test_an_unknown_run_suggests_the_nearest(run):
    result = invoke("evaluate", run.name[:-1] + "x")
    assert result.exit_code == 1
    assert f"did you mean '{run.name}'" in result.output


def test_no_run_yet_is_explained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke("status", "last")
    assert result.exit_code == 1
    assert "start one with `hybrid train`" in result.output


def test_the_module_is_the_command():
    command = [sys.executable, "-m", "launch", "--version"]
    result = subprocess.run(command, cwd=ROOT, env=launcher_environment(), capture_output=True, text=True, check=True)
    assert result.stdout.startswith("hybrid, version")


def test_status_of_a_finished_run_tells_its_measures_and_files(run):
    tables = {"test": {"P@5": 0.716, "items": 40, "popularity": {"P@5": 0.383}}}
    (run / "results.json").write_text(json.dumps(tables))
    (run / "gallery.html").write_text("<html>")
    told = invoke("status", str(run)).output
    assert "finished" in told and "0.716" in told and "gallery.html" in told and "metrics.jsonl" not in told
    known = json.loads(invoke("status", str(run), "--json").output)
    assert known["results"] == tables and known["state"] == "finished" and known["alive"] is False


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_a_name_that_the_output_cannot_hold_is_written_with_escapes(tmp_path, flags):
    directory = create_run(RunConfig(), tmp_path / "花")
    write_record(directory, RunRecord(pid=1, control="ipc:///nowhere", started=1.0, state="finished"))
    result = CliRunner(charset="iso-8859-1").invoke(main, ["status", str(directory), *flags], prog_name="hybrid")
    assert result.exit_code == 0, result.exception
    if flags:
        assert json.loads(result.output)["run"] == str(directory)
    else:
        assert "\\u82b1 is not running: finished." in result.output


@pytest.mark.parametrize("damaged", ["", "[1]", '{"test": '])
def test_status_of_a_run_whose_results_cannot_be_read_is_told_without_them(run, damaged):
    (run / "results.json").write_text(damaged)
    told = invoke("status", str(run))
    assert told.exit_code == 0 and "is not running: finished" in told.output


def test_status_says_if_measures_are_of_an_earlier_step(run):
    (run / "checkpoints" / "step-000000020" / "matrix").mkdir(parents=True)
    tables = {"test": {"P@5": 0.7, "popularity": {"P@5": 0.3}, "step": 20}}
    (run / "results.json").write_text(json.dumps(tables))
    assert "Measured at step" not in invoke("status", str(run)).output
    (run / "checkpoints" / "step-000000031" / "matrix").mkdir(parents=True)
    told = invoke("status", str(run)).output
    assert "Measured at step 20; `hybrid evaluate` measures the last checkpoint (31)." in told


def test_status_of_a_failed_run_tells_where_its_logs_are(run):
    (run / "log").mkdir(exist_ok=True)
    write_record(run, RunRecord(pid=1, control="ipc:///nowhere", started=1.0, state="failed"))
    told = invoke("status", str(run)).output
    assert "is not running: failed" in told and "--resume" in told and told.rstrip().endswith("log")
