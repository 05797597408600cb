"""The programs under examples/, run as a user runs them."""

import importlib.util
import os
import re
import subprocess
import sys

import pytest
from scripted_trunk import ROOT

LIMIT_S = 120.0
SMALL = ("--tags", "2000", "--dim", "16", "--workers", "1", "--steps", "60")


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
