"""The launcher's log holds every name, whatever the locale."""

import os
import subprocess
import sys

from scripted_trunk import ROOT

CODE = r"""
import logging, pathlib, sys
from launch.logs import logging_to
with logging_to(pathlib.Path(sys.argv[1])):
    logging.getLogger("a").warning("left out: \u732b-\udcff.png")
"""


def test_a_name_that_the_locale_cannot_write_is_logged_in_utf8(tmp_path):
    log = tmp_path / "launcher.log"
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", CODE, str(log)], env={**os.environ, **locale}, capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert log.read_text(encoding="utf-8").endswith("left out: \u732b-\\udcff.png\n")
