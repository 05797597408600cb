"""`make setup-peers` where fastText cannot be compiled, or can be later."""

import shutil
import subprocess

import pytest
from scripted_trunk import ROOT

PYTHON = """#!/bin/sh
echo "$@" >> calls
case "$*" in
  *"import fasttext"*) test -e compiled;;
  *fasttext*) test -e compiler && touch compiled;;
esac
"""


@pytest.fixture
def clone(tmp_path):
    """What the target reads, with an interpreter that notes what it is told."""
    for name in ("Makefile", "constraints-peers.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    python = tmp_path / ".venv-peers" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON)
    python.chmod(0o755)
    return tmp_path


def setup_peers(clone):
    """What it says, and with which options the interpreter was started."""
    (clone / "calls").write_text("")
    command = ["make", "-C", str(clone), "setup-peers", "PYTHON=true"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout, (clone / "calls").read_text().splitlines()


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_fasttext_is_tried_again_until_it_is_there(clone):
    said, calls = setup_peers(clone)
    assert "could not be compiled" in said and any("gensim" in call for call in calls)
    for has_compiler in (False, True):
        if has_compiler:
            (clone / "compiler").touch()
        said, calls = setup_peers(clone)
        assert calls[-1].endswith("fasttext") and not any("gensim" in call for call in calls)
        assert ("could not be compiled" in said) != has_compiler
    assert setup_peers(clone)[1] == ["-c import fasttext"], "then nothing is left to do"
