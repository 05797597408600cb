"""The launcher's log holds every name, whatever the locale, and is no reason for a run to end."""

import logging
import os
import subprocess
import sys

from full_disk import full_disk
from scripted_trunk import ROOT

from launch.logs import logging_to

CODE = r"""
import logging, pathlib, sys
from launch.logs import logging_to
with logging_to(pathlib.Path(sys.argv[1])):
    logging.getLogger("a").warning("left out: \u732b-\udcff.png")
"""


def test_a_full_disk_costs_lines_of_the_log_and_nothing_else(tmp_path, capsys):
    log = logging.getLogger("tests.full-disk")
    with logging_to(tmp_path / "launcher.log"):
        log.info("before")
        with full_disk(60):
            log.error("longer than there is room for")
    with full_disk(), logging_to(tmp_path / "other.log"):
        log.error("still waiting when the log is closed")
    assert "before" in (tmp_path / "launcher.log").read_text()
    assert capsys.readouterr().err == ""


def test_a_defect_in_what_is_logged_is_shown(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    with logging_to(tmp_path / "launcher.log"):
        logging.getLogger("tests.defect").error("%d", "no number")
    assert "TypeError" in capsys.readouterr().err


def test_a_name_that_the_locale_cannot_write_is_logged_in_utf8(tmp_path):
    log = tmp_path / "launcher.log"
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", CODE, str(log)], env={**os.environ, **locale}, capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert log.read_text(encoding="utf-8").endswith("left out: \u732b-\\udcff.png\n")
