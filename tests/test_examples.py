"""The programs under examples/, run as a user runs them."""

import contextlib
import importlib
import importlib.util
import os
import re
import subprocess
import sys
import types
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scripted_trunk import ROOT
from torch import nn

LIMIT_S = 300.0  # kernels of changed sources are compiled first, beside other tests
SMALL = ("--tags", "2000", "--dim", "8", "--workers", "1", "--steps", "60")


def run_example(name, folder):
    """Run an example in an empty folder; returns what it printed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, str(ROOT / "examples" / name), *SMALL]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT_S)
    assert result.returncode == 0, result.stderr
    return result.stdout


def precision_in(output):
    return float(re.search(r"P@3 among 2,000 tags: ([\d.]+)", output).group(1))


def test_plain_loop(tmp_path):
    output = run_example("plain_loop.py", tmp_path)
    losses = [float(loss) for loss in re.findall(r"loss ([\d.]+)", output)]
    assert losses[-1] < losses[0]
    assert precision_in(output) > 0.5


@pytest.mark.skipif(importlib.util.find_spec("lightning") is None, reason="needs lightning")
def test_lightning_head(tmp_path):
    assert precision_in(run_example("lightning_head.py", tmp_path)) > 0.5


class LightningModule(nn.Module):
    """What the example takes of Lightning's own, where that is not installed."""

    global_step = 5

    def save_hyperparameters(self, ignore):
        given = sys._getframe(1).f_locals
        self.hparams = {name: given[name] for name in ("num_tags", "dim", "workers")}


@pytest.fixture
def tagger_type(monkeypatch):
    lightning = types.ModuleType("lightning")
    lightning.LightningModule = LightningModule
    monkeypatch.setitem(sys.modules, "lightning", lightning)
    monkeypatch.syspath_prepend(ROOT / "examples")
    yield importlib.import_module("lightning_head").Tagger
    for name in ("lightning_head", "plain_loop"):
        sys.modules.pop(name, None)


def test_rows_of_the_lightning_module_outlive_its_stages_and_go_with_its_checkpoints(tagger_type, tmp_path):
    given, checkpoint = (50, 8, 1, np.ones(50, np.int64)), {}
    with contextlib.closing(tagger_type(*given)) as tagger, contextlib.closing(tagger_type(*given)) as other:
        tagger.trainer = SimpleNamespace(default_root_dir=tmp_path)
        tagger.setup("fit")
        head = tagger.head
        head(torch.randn(4, 8), [[1], [2], [3], [1]])
        tagger.setup("test")
        assert tagger.head is head
        tagger.on_save_checkpoint(checkpoint)
        head(torch.randn(4, 8), [[1], [2], [3], [1]])
        other.setup("fit")
        other.on_load_checkpoint(checkpoint)
        assert (other.head.step, head.step) == (1, 2)
        assert not np.array_equal(other.head.matrix.rows_ND, head.matrix.rows_ND)
        tagger.on_load_checkpoint(checkpoint)
        np.testing.assert_array_equal(other.head.matrix.rows_ND, tagger.head.matrix.rows_ND)
    assert tagger.head is None and head.is_closed
