"""Checkpoints: exact round trips, damage of every kind, and kills while one is written."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from full_disk import full_disk
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

import launch.runs
from hybrid.checkpoint import (
    KEPT,
    MATRIX,
    OPTIMIZER,
    RANDOM,
    STATE,
    TRUNK,
    newest_whole_checkpoint,
    open_checkpoint,
    save_checkpoint,
)
from hybrid.optimizer_step import make_optimizer
from launch.config import TrainConfig
from workers.config import HeadConfig
from workers.errors import RunError, TrunkDiverged, UnreadableFile
from workers.matrix import TagMatrix
from workers.matrix_io import load_matrix, open_rows

HEAD = HeadConfig(negatives=4)
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def make_trunk(width=6):
    trunk = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.Flatten(), nn.Linear(width * 9, 8))
    return trunk.to(memory_format=torch.channels_last)


class Training:
    """A small training whose every part has moved from where it started."""

    def __init__(self, seed=0, steps=3):
        torch.manual_seed(seed)
        self.trunk = make_trunk()
        self.optimizer = make_optimizer(self.trunk, TrainConfig(lr=0.01))  # fused: it minds how its state is laid out
        self.matrix = TagMatrix.create(10, 8, config=HEAD, counts=np.arange(10, 0, -1), seed=seed)
        for _ in range(steps):
            self.step()

    def step(self):
        self.optimizer.zero_grad()
        images = torch.randn(4, 3, 5, 5)
        self.trunk(images + 0.1 * torch.randn(4, 3, 5, 5)).square().mean().backward()
        self.optimizer.step()

    def save(self, folder, step=3, device=CPU):
        return save_checkpoint(
            folder,
            step=step,
            trunk=self.trunk,
            optimizer=self.optimizer,
            matrix=self.matrix,
            head=HEAD,
            progress={"epoch": 2, "used_s": 1.5},
            device=device,
        )


@pytest.fixture
def training():
    training = Training()
    yield training
    training.matrix.close()


def test_a_resumed_training_goes_on_bit_for_bit(tmp_path, training):
    checkpoint = open_checkpoint(training.save(tmp_path))
    for _ in range(4):
        training.step()
    other = Training(seed=9, steps=1)
    checkpoint.load_trunk(other.trunk)
    checkpoint.load_optimizer(other.optimizer)
    checkpoint.load_generators(CPU)
    for _ in range(4):
        other.step()
    for name, value in training.trunk.state_dict().items():
        assert torch.equal(value, other.trunk.state_dict()[name]), name
    assert checkpoint.step == 3 and checkpoint.progress == {"epoch": 2, "used_s": 1.5}
    other.matrix.close()


def test_the_matrix_comes_back_with_its_state(tmp_path, training):
    training.matrix.tag_state_N4[:, 1] = np.arange(10)
    loaded = load_matrix(open_checkpoint(training.save(tmp_path)).matrix_folder, HEAD)
    assert np.array_equal(loaded.rows_ND, training.matrix.rows_ND)
    assert np.array_equal(loaded.tag_state_N4, training.matrix.tag_state_N4)
    loaded.close()


def test_a_trunk_that_diverged_is_not_saved_over_one_that_did_not(tmp_path, training):
    training.save(tmp_path, 3)
    training.trunk.register_buffer("mask", torch.full((2,), -torch.inf))
    training.save(tmp_path, 4)
    with torch.no_grad():
        training.trunk[3].weight[1, 2] = torch.nan
    with pytest.raises(TrunkDiverged, match=r"weight 3\.weight is not finite after step 5"):
        training.save(tmp_path, 5)
    assert newest_whole_checkpoint(tmp_path).step == 4


def test_only_the_newest_are_kept_and_the_last_is_found(tmp_path, training):
    assert newest_whole_checkpoint(tmp_path) is None
    for step in (9, 10, 100, 2000):
        training.save(tmp_path, step)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000100", "step-000002000"] and KEPT == 2
    assert newest_whole_checkpoint(tmp_path).step == 2000


def test_a_save_is_kept_beside_damaged_checkpoints_of_later_steps(tmp_path, training):
    for step in (1000, 1100):
        training.save(tmp_path, step)
        (tmp_path / f"step-{step:09d}" / "state.json").unlink()
    for step in (50, 60, 70):
        assert training.save(tmp_path, step).is_dir()
        assert newest_whole_checkpoint(tmp_path).step == step
    kept = ["step-000000060", "step-000000070", "step-000001000", "step-000001100"]
    assert sorted(path.name for path in tmp_path.iterdir()) == kept


def test_a_copy_that_somebody_keeps_is_neither_a_checkpoint_nor_removed(tmp_path, training):
    training.save(tmp_path, 5)
    kept = tmp_path / "step-000000009-good"
    shutil.copytree(tmp_path / "step-000000005", kept)
    for step in (6, 7):
        training.save(tmp_path, step)
    assert newest_whole_checkpoint(tmp_path).step == 7
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000006", "step-000000007", kept.name]


def test_saving_a_step_twice_replaces_it(tmp_path, training):
    training.save(tmp_path, 5)
    training.step()
    place = training.save(tmp_path, 5)
    trunk = make_trunk()
    open_checkpoint(place).load_trunk(trunk)
    assert torch.equal(trunk[0].weight, training.trunk[0].weight)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000005"]


def damage(path, how):
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[:-7])
    elif how == "flipped":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    else:
        path.write_bytes(b"")


@pytest.mark.parametrize("how", ["missing", "truncated", "flipped", "emptied"])
@pytest.mark.parametrize("name", [TRUNK, OPTIMIZER, RANDOM])
def test_damaged_files_are_named_and_passed_over(tmp_path, training, name, how):
    training.save(tmp_path, 1)
    newest = training.save(tmp_path, 2)
    damage(newest / name, how)
    with pytest.raises(RunError, match=rf"step-000000002/{name}.*(missing|damaged).*Remove"):
        open_checkpoint(newest)
    assert newest_whole_checkpoint(tmp_path).step == 1


@pytest.mark.parametrize("name", ["rows-00000.npy", "tag_state.npy", "meta.json"])
def test_a_matrix_that_was_cut_is_named_and_passed_over(tmp_path, training, name):
    training.save(tmp_path, 1)
    newest = training.save(tmp_path, 2)
    damage(newest / MATRIX / name, "truncated")
    with pytest.raises(RunError, match=rf"step-000000002/matrix/{name}.*Remove"):
        open_checkpoint(newest)
    assert newest_whole_checkpoint(tmp_path).step == 1


def test_the_writer_of_a_checkpoint_tells_how_far_it_is(tmp_path, training):
    told = []
    save_checkpoint(
        tmp_path,
        step=1,
        trunk=training.trunk,
        optimizer=training.optimizer,
        matrix=training.matrix,
        head=HEAD,
        progress={},
        device=CPU,
        tell=lambda done, total: told.append((done, total)),
    )
    sizes = [training.matrix.arrays[name].nbytes for name in ("rows_NS", "tag_state_N4", "counts_N")]
    assert told == [(sum(sizes[: i + 1]), sum(sizes)) for i in range(3)]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 99}', b'{"format": 1, "step": 3}'])
def test_a_damaged_state_is_a_typed_error(tmp_path, training, content):
    place = training.save(tmp_path)
    (place / STATE).write_bytes(content)
    with pytest.raises(RunError, match=STATE):
        open_checkpoint(place)


@pytest.mark.parametrize("name", [STATE, TRUNK, f"{MATRIX}/meta.json", f"{MATRIX}/counts.npy"])
def test_a_file_that_the_system_keeps_from_us_is_not_called_damaged(tmp_path, training, monkeypatch, name):
    """Else the run would go on from an older checkpoint, and its user might remove a whole one."""
    place = training.save(tmp_path)

    def refuse(event, arguments):
        if event == "open" and is_refusing and str(arguments[0]) == str(place / name):
            raise OSError(errno.EMFILE, "Too many open files")

    is_refusing = True
    sys.addaudithook(refuse)
    with pytest.raises(UnreadableFile, match=rf"{re.escape(str(place / name))} cannot be read.*may be whole.*ulimit"):
        newest_whole_checkpoint(tmp_path)
    is_refusing = False


def test_a_missing_matrix_is_a_typed_error(tmp_path, training):
    place = training.save(tmp_path)
    (place / MATRIX).rename(place / "elsewhere")
    with pytest.raises(RunError, match=r"matrix/meta\.json cannot be read.*Remove"):
        open_checkpoint(place)


def test_another_trunk_or_optimizer_is_refused(tmp_path, training):
    checkpoint = open_checkpoint(training.save(tmp_path))
    with pytest.raises(RunError, match=r"trunk\.factory"):
        checkpoint.load_trunk(make_trunk(width=7))
    other = make_trunk(width=7)
    with pytest.raises(RunError, match="does not fit this optimizer"):
        checkpoint.load_optimizer(torch.optim.AdamW(other.parameters()))


def test_on_a_card_that_the_run_was_not_on_before_its_generator_starts_afresh(tmp_path, training, caplog):
    open_checkpoint(training.save(tmp_path)).load_generators(CUDA)
    assert "that of cuda starts afresh" in caplog.text


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_generator_of_a_card_goes_on(tmp_path, training):
    checkpoint = open_checkpoint(training.save(tmp_path, device=CUDA))
    expected = torch.rand(3, device=CUDA)
    checkpoint.load_generators(CUDA)
    assert torch.equal(torch.rand(3, device=CUDA), expected)


def test_nothing_is_pickled(tmp_path, training):
    place = training.save(tmp_path)
    suffixes = {path.suffix for path in place.rglob("*") if path.is_file()}
    assert suffixes == {".safetensors", ".npy", ".json"}
    json.loads((place / STATE).read_text())


def test_a_failed_write_leaves_nothing_behind(tmp_path, training, monkeypatch):
    training.save(tmp_path, 1)

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hybrid.checkpoint.save_matrix", fail)
    with pytest.raises(RunError, match="No space left"):
        training.save(tmp_path, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001"]


@pytest.mark.parametrize("place", ["hybrid.checkpoint.save_matrix", "safetensors.torch.save_file"])
def test_a_full_disk_says_how_much_a_checkpoint_takes_and_how_much_is_free(tmp_path, training, monkeypatch, place):
    step_1 = training.save(tmp_path, 1)
    written = sum(np.load(path).nbytes for path in step_1.glob("matrix/*.npy"))
    written += sum(t.nbytes for file in (TRUNK, OPTIMIZER) for t in load_file(step_1 / file).values())
    words = "Error while serializing: I/O error: No space left on device (os error 28)"
    error = OSError(28, "No space left on device") if "hybrid" in place else SafetensorError(words)

    def fail(*arguments):
        raise error

    monkeypatch.setattr(place, fail)
    monkeypatch.setattr("workers.refused_write.size_text", str)
    with pytest.raises(RunError) as caught:
        training.save(tmp_path, 2)
    told = re.search(r": No space left on device \((\d+) wanted, \d+ free\): make room there\.$", str(caught.value))
    assert int(told[1]) == written


@pytest.mark.parametrize("room_bytes", [0, 300, 1000, 4000])
def test_a_full_disk_leaves_the_checkpoint_before_whichever_file_meets_it(tmp_path, training, room_bytes):
    training.save(tmp_path, 1)
    with full_disk(room_bytes), pytest.raises(RunError, match="cannot write a checkpoint of step 2"):
        training.save(tmp_path, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001"]
    assert newest_whole_checkpoint(tmp_path).step == 1
    training.save(tmp_path, 3)
    assert newest_whole_checkpoint(tmp_path).step == 3


SAVER = """
    import sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[2])
    from test_checkpoint import Training
    training = Training()
    for step in range(1, 100_000):
        training.save(Path(sys.argv[1]), step)
        print(step, flush=True)
"""


def test_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path):
    here = Path(__file__).parent
    command = [sys.executable, "-c", textwrap.dedent(SAVER), str(tmp_path), str(here)]
    environment = os.environ | {"PYTHONPATH": str(here.parent)}
    saver = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        last = 0
        while last < 12:
            last = int(saver.stdout.readline())
        saver.send_signal(signal.SIGKILL)
        last = max([last, *map(int, saver.stdout.read().split())])
    finally:
        saver.kill()
        saver.wait()
        saver.stdout.close()
    found = newest_whole_checkpoint(tmp_path)
    assert found is not None and found.step >= last
    assert open_rows(found.matrix_folder).num_tags == 10
    training = Training()
    training.save(tmp_path, last + 5)
    assert all(path.name.startswith("step-") for path in tmp_path.iterdir())
    training.matrix.close()


CRASHER = """
    import itertools, os, shutil, signal, sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[2])
    import torch
    torch.set_num_threads(1)
    from test_checkpoint import Training
    training = Training()
    for crash in itertools.count():
        place = Path(sys.argv[1]) / str(crash) / "checkpoints"
        training.save(place, 1)
        training.save(place, 2)
        child = os.fork()
        if child == 0:
            calls = itertools.count()
            for owner, name in ((os, "fsync"), (os, "mkdir"), (Path, "rename"), (shutil, "rmtree")):
                def deadly(*arguments, real=getattr(owner, name), **named):
                    if next(calls) == crash:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return real(*arguments, **named)
                setattr(owner, name, deadly)
            training.save(place, 3)
            os._exit(0)
        if os.waitpid(child, 0)[1] == 0:
            break
    print(crash)
"""
"""Saves a checkpoint in children of which each dies one call later than the one before, until one lives."""


def test_a_kill_before_any_call_leaves_the_old_checkpoint_or_the_new_one(tmp_path, training):
    here = Path(__file__).parent
    command = [sys.executable, "-c", textwrap.dedent(CRASHER), str(tmp_path), str(here)]
    environment = os.environ | {"PYTHONPATH": str(here.parent)}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, timeout=300, check=True)
    assert int(done.stdout) >= 8, "so many calls are worth a kill"
    steps = []
    for run in sorted(tmp_path.iterdir(), key=lambda path: int(path.name)):
        found = newest_whole_checkpoint(run / "checkpoints")
        assert launch.runs.latest_checkpoint(run) == found.path
        steps.append(found.step)
        training.save(run / "checkpoints", 4)
        assert [path.name for path in sorted((run / "checkpoints").iterdir())][-1] == "step-000000004"
        assert len(list((run / "checkpoints").iterdir())) == KEPT, "the next save cleans up"
    assert steps == sorted(steps) and set(steps) == {2, 3}
