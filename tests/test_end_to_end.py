"""Real runs of `hybrid` on drawn shapes: trunk, workers, launcher, and every way in which they end."""

import contextlib
import json
import os
import signal

import numpy as np
import pytest
from scripted_trunk import only_run, processes_of, signal_all, wait_until
from shapes import hybrid, start_hybrid, train_options, write_shapes

import hybrid as hybrid_package
from launch.run_settings import read_config

NUM_IMAGES, BATCH = 156, 16
LIMIT_S = 300.0  # kernels of changed sources are compiled first, beside other tests
GONE_S = 60.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where data, cache and runs of this module lie."""
    folder = tmp_path_factory.mktemp("e2e")
    write_shapes(folder / "shapes", NUM_IMAGES)
    return folder


@pytest.fixture(scope="module")
def finished(folder):
    """(run directory, result of the command) of a whole training."""
    run = folder / "runs" / "whole"
    result = hybrid(folder, *train_options(folder / "shapes", run_dir=run), "--json")
    assert result.returncode == 0, result.stderr
    return run, result


@pytest.fixture
def started(tmp_path, folder):
    """Starts a training that ends when somebody ends it; whatever is left of it afterwards is ended."""
    launchers = []

    def start(*arguments, **options):
        given = arguments or train_options(folder / "shapes", **{"epochs": 5000, **options})
        launchers.append(start_hybrid(tmp_path, *given))
        return launchers[-1]

    yield start
    for launcher in launchers:
        launcher.kill()
        launcher.communicate()
    signal_all(tmp_path)


def lines_of(run, kind):
    return [line for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()) if line["kind"] == kind]


def first_and_later_loss(run):
    """Mean loss of the first step and of all later ones: a line that ends a run may hold one batch alone."""
    first, *later = lines_of(run, "train")
    num_steps = np.diff([line["step"] for line in (first, *later)])
    return first["loss"], np.average([line["loss"] for line in later], weights=num_steps)


def status(folder):
    result = hybrid(folder, "status", "last", "--json")
    return json.loads(result.stdout) if result.returncode == 0 else {}


def wait_for_step(folder, step):
    """The run directory, once it has trained so far."""
    run = wait_until(lambda: only_run(folder), "the run directory", LIMIT_S)
    wait_until((run / "run.json").is_file, "the launcher's record", LIMIT_S)
    wait_until(lambda: status(folder).get("step", 0) >= step, f"step {step}", LIMIT_S)
    return run


def assert_nothing_is_left(folder):
    wait_until(lambda: not processes_of(folder), "all processes to be gone", GONE_S)
    wait_until(lambda: not list((folder / "tmp").glob("hybrid-ipc-*")), "private directories to be gone", GONE_S)


def last_state(run):
    """What the newest checkpoint says of the training."""
    newest = max((run / "checkpoints").glob("step-*"))
    state = json.loads((newest / "state.json").read_text())
    assert newest.name == f"step-{state['step']:09d}"
    return state["progress"]


def assert_no_step_is_lost(run, progress):
    """Steps and examples are those of whole epochs and the begun one, each batch counted once."""
    num_train = json.loads((run / "prepared.json").read_text())["num_train"]
    begun = progress["num_examples_of_epoch"]
    steps_of_epoch = -(-num_train // BATCH)
    assert progress["num_examples"] == progress["epoch"] * num_train + begun
    assert progress["step"] == progress["epoch"] * steps_of_epoch + -(-begun // BATCH)


def test_a_run_leaves_everything_that_makes_it(finished):
    run, _ = finished
    names = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    *earlier, checkpoint = sorted((run / "checkpoints").iterdir())
    assert len(earlier) <= 1  # a slow machine has saved one on the way
    wanted = {
        "config.toml",
        "vocabulary.tsv",
        "metrics.jsonl",
        "results.json",
        "gallery.html",
        "run.json",
        "prepared.json",
    }
    wanted |= {f"log/{name}.log" for name in ("launcher", "prepare", "trunk", "worker-0", "worker-1")}
    wanted |= {f"index/{name}" for name in ("features.npy", "items.npy", "index.json")}
    files = ("trunk.safetensors", "optimizer.safetensors", "random.safetensors", "state.json")
    wanted |= {
        f"checkpoints/{checkpoint.name}/{name}" for name in (*files, "matrix/meta.json", "matrix/rows-00000.npy")
    }
    assert wanted <= names
    assert any(name.startswith("tensorboard/events") for name in names)
    assert "Traceback" not in "".join(path.read_text() for path in (run / "log").iterdir())
    assert_no_step_is_lost(run, last_state(run))


def test_it_learns_and_says_how_well(finished):
    run, result = finished
    first, later = first_and_later_loss(run)
    assert later < 0.9 * first
    printed = json.loads(result.stdout)
    (test,) = lines_of(run, "test")
    assert printed["state"] == "finished"
    assert printed["metrics"]["P@5"] == test["P@5"] > test["popularity"]["P@5"]
    assert 0 < printed["metrics"]["mAP"] <= 1


def test_the_finished_run_answers_in_python(finished):
    run, _ = finished
    loaded = hybrid_package.load(run)
    assert len(loaded.search("red", 5).hits) == 5
    assert {found.tag for found in loaded.neighbours("red", 3)} < set(loaded.vocabulary.tags)
    with pytest.raises(hybrid_package.loaded.DataError, match="red"):
        loaded.neighbours("rad")


def test_annotate_names_what_a_picture_shows(finished, folder):
    run, _ = finished
    pictures = sorted((folder / "shapes").glob("*.png"))[:12]
    result = hybrid(folder, "annotate", str(run), *map(str, pictures), "-k", "4", "--json")
    assert result.returncode == 0, result.stderr
    found = {image["image"]: [tag["tag"] for tag in image["tags"]] for image in json.loads(result.stdout)["images"]}
    hits = [picture.stem.split("-")[1] in found[str(picture)] for picture in pictures]
    assert sum(hits) >= 8, found


@pytest.mark.slow
def test_search_neighbours_and_evaluate_print_one_object_each(finished, folder):
    run, _ = finished
    sheet = folder / "red.html"
    search = json.loads(hybrid(folder, "search", str(run), "red", "-k", "6", "--html", str(sheet), "--json").stdout)
    assert "red" in json.dumps(search) and sheet.stat().st_size > 1000
    neighbours = json.loads(hybrid(folder, "neighbours", str(run), "red", "--json").stdout)
    assert neighbours["tag"] == "red" and len(neighbours["neighbours"]) == 10
    evaluated = json.loads(hybrid(folder, "evaluate", str(run), "--json").stdout)
    (test,) = lines_of(run, "test")
    assert evaluated["P@5"] == pytest.approx(test["P@5"], abs=1e-6)
    assert {"PSP@5", "nDCG@5", "R@10", "mAP"} < set(evaluated) and "P@5" in evaluated["popularity"]
    unknown = hybrid(folder, "search", str(run), "yelow", "--json")
    assert unknown.returncode == 1 and json.loads(unknown.stdout)["suggestions"][0] == "yellow"


@pytest.mark.slow
def test_a_launcher_killed_outright_leaves_nothing_behind(started, tmp_path):
    launcher = started()
    wait_for_step(tmp_path, 1)
    assert len(processes_of(tmp_path)) >= 4
    os.kill(launcher.pid, signal.SIGKILL)
    launcher.communicate(timeout=LIMIT_S)
    assert_nothing_is_left(tmp_path)


@pytest.mark.slow
def test_a_stopped_run_goes_on_at_the_same_step_but_not_with_other_data(started, tmp_path, folder):
    launcher = started()
    run = wait_for_step(tmp_path, 4)
    assert json.loads(hybrid(tmp_path, "stop", "last", "--json").stdout) == {"state": "stopped"}
    output, errors = launcher.communicate(timeout=LIMIT_S)
    assert launcher.returncode == 0, errors
    assert f"--resume runs/{run.name}" in output
    before = last_state(run)
    assert before["step"] >= 4
    assert_no_step_is_lost(run, before)

    epochs = before["epoch"] + 2
    result = hybrid(tmp_path, "train", "--resume", "last", "--epochs", str(epochs))
    assert result.returncode == 0, result.stderr
    after = last_state(run)
    assert_no_step_is_lost(run, after)
    num_train = json.loads((run / "prepared.json").read_text())["num_train"]
    assert after["num_examples"] == epochs * num_train
    steps = [line["step"] for line in lines_of(run, "train")]
    assert steps == sorted(set(steps)) and steps[-1] == after["step"] > before["step"]
    assert after["used_s"] > before["used_s"]
    assert read_config(run).train.epochs == epochs

    result = hybrid(tmp_path, "train", "--resume", "last")
    assert result.returncode == 0 and "the budget is spent" in result.stderr + result.stdout
    assert last_state(run) == after

    first, vocabulary = next((folder / "shapes").glob("*.png")), (run / "vocabulary.tsv").read_bytes()
    added = first.with_suffix(".json")
    added.write_text('{"tags": ["one more"]}')
    try:
        refused = hybrid(tmp_path, "train", "--resume", "last", "--epochs", str(epochs + 1))
        found = hybrid(tmp_path, "search", "last", "red")
    finally:
        added.unlink()
    assert refused.returncode == 1 and "are not those that" in refused.stderr
    assert found.returncode == 0 and "were edited" in found.stdout and "✓" in found.stdout
    assert (run / "vocabulary.tsv").read_bytes() == vocabulary and last_state(run) == after
    assert read_config(run).train.epochs == epochs
    assert_nothing_is_left(tmp_path)


@pytest.mark.slow
def test_scaling_and_a_killed_worker_lose_no_step(started, tmp_path):
    launcher = started(workers=1)
    run = wait_for_step(tmp_path, 2)

    def ready():
        return sorted(worker["name"] for worker in status(tmp_path).get("workers", []) if worker["state"] == "ready")

    assert hybrid(tmp_path, "scale", "last", "3").returncode == 0
    wait_until(lambda: len(ready()) == 3, "three workers", LIMIT_S)
    (victim,) = (pid for pid, command in processes_of(tmp_path).items() if "--name worker-1-1 " in command)
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: ready() == ["worker-0-1", "worker-1-2", "worker-2-1"], "the worker to be replaced", LIMIT_S)
    assert hybrid(tmp_path, "scale", "last", "1").returncode == 0
    wait_until(lambda: ready() == ["worker-0-1"], "one worker", LIMIT_S)
    now = status(tmp_path)
    assert now["workers_lost"] == 1
    wait_until(lambda: status(tmp_path)["step"] >= now["step"] + 5, "more steps", LIMIT_S)
    os.kill(launcher.pid, signal.SIGINT)
    _, errors = launcher.communicate(timeout=LIMIT_S)
    assert launcher.returncode == 0, errors
    assert_no_step_is_lost(run, last_state(run))
    assert_nothing_is_left(tmp_path)


@pytest.mark.slow
def test_a_killed_trunk_ends_the_run_with_the_command_to_resume(started, tmp_path):
    launcher = started(set="train.checkpoint_minutes=0.005")
    run = wait_for_step(tmp_path, 2)
    wait_until(lambda: list((run / "checkpoints").glob("step-*/state.json")), "a checkpoint", LIMIT_S)
    (trunk,) = (pid for pid, command in processes_of(tmp_path).items() if " -m hybrid train " in command)
    os.kill(trunk, signal.SIGKILL)
    _, errors = launcher.communicate(timeout=LIMIT_S)
    assert launcher.returncode == 1
    assert "SIGKILL" in errors and f"--resume runs/{run.name}" in errors
    assert_nothing_is_left(tmp_path)

    saved = last_state(run)
    result = hybrid(tmp_path, "train", "--resume", "last", "--epochs", str(saved["epoch"] + 1))
    assert result.returncode == 0, result.stderr
    assert f"resuming from step-{saved['step']:09d}" in result.stderr + result.stdout
    after = last_state(run)
    assert_no_step_is_lost(run, after)
    assert after["step"] > saved["step"] and after["used_s"] > saved["used_s"]


@pytest.mark.slow
def test_a_run_whose_workers_all_die_saves_what_it_learned(started, tmp_path):
    launcher = started()
    run = wait_for_step(tmp_path, 2)
    while launcher.poll() is None:
        for pid, command in processes_of(tmp_path).items():
            if " -m workers " in command:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    _, errors = launcher.communicate(timeout=LIMIT_S)
    assert launcher.returncode == 1
    assert "served nothing" in errors and "saved" in errors and "train --resume" in errors
    progress = last_state(run)
    assert progress["step"] >= 2
    assert_no_step_is_lost(run, progress)
    assert_nothing_is_left(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["negative-sampling", "sampled-softmax"])
def test_other_ways_to_train(folder, tmp_path, objective):
    """Private negatives, another trunk of the user's own, weighted positives, four micro-batches."""
    (tmp_path / "my_trunks.py").write_text(
        "import torch\n"
        "def linear(dim, image_size):\n"
        "    linear = torch.nn.Linear(3 * image_size**2, dim)\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), linear, torch.nn.LayerNorm(dim))\n"
    )
    options = train_options(
        folder / "shapes",
        objective=objective,
        trunk="my_trunks:linear",
        microbatches=4,
        tag_loss_weight="inverse-frequency",
        workers=1,
        run_dir=tmp_path / "run",
    )
    result = hybrid(tmp_path, *options, "--private-negatives")
    assert result.returncode == 0, result.stderr
    first, later = first_and_later_loss(tmp_path / "run")
    assert later < first


@pytest.mark.slow
def test_settings_that_cannot_work_end_in_one_clear_message(folder, tmp_path):
    for changes, told in (
        ({"data": tmp_path / "nothing"}, "no such folder"),
        ({"trunk": "no_such_module:trunk"}, "no_such_module"),
        ({"dim": 6}, "multiple of 4"),
        ({"image_sise": 16}, "image-size"),
    ):
        if "data" in changes:
            changes = {"data": f"folder:{changes['data']}"}
        result = hybrid(tmp_path, *train_options(folder / "shapes", **changes))
        assert result.returncode == 2
        assert told in result.stderr, result.stderr
        assert "Traceback" not in result.stderr
    assert_nothing_is_left(tmp_path)


@pytest.mark.slow
def test_negatives_follow_a_trunk_that_waits_and_a_resumed_run_goes_on_with_them(folder, tmp_path):
    """A trunk that sleeps leaves its cores to the worker, whose time it hides whatever the machine."""
    (tmp_path / "my_trunks.py").write_text(
        "import time, torch\n"
        "class Sleepy(torch.nn.Sequential):\n"
        "    def forward(self, images):\n"
        "        time.sleep(0.05)\n"
        "        features = super().forward(images)\n"
        "        if features.requires_grad:\n"
        "            features.register_hook(lambda grad: time.sleep(0.1))\n"
        "        return features\n"
        "def sleepy(dim, image_size):\n"
        "    return Sleepy(torch.nn.Flatten(), torch.nn.Linear(3 * image_size**2, dim), torch.nn.LayerNorm(dim))\n"
    )
    run = tmp_path / "run"
    settings = {"trunk": "my_trunks:sleepy", "workers": 1, "run_dir": run, "negatives": "auto", "epochs": 4}
    options = train_options(folder / "shapes", **settings)
    bounds = ("train.min_negatives=2", "train.max_negatives=7", "head.negatives=3")
    result = hybrid(tmp_path, *options, *(text for bound in bounds for text in ("--set", bound)))
    assert result.returncode == 0, result.stderr
    assert "negatives: from 3, between 2 and 7" in result.stderr + result.stdout
    train = lines_of(run, "train")
    assert train[0]["negatives"] == 3 and train[-1]["negatives"] == 7
    assert train[-1]["shadow_ms"] > 49 and train[-1]["shadow_fill"] < 0.9
    assert last_state(run)["num_negatives"] == 7
    again = hybrid(tmp_path, "train", "--resume", run, "--epochs", "5")
    assert again.returncode == 0, again.stderr
    assert lines_of(run, "train")[-1]["negatives"] == 7
