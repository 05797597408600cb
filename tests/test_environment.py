"""Where processes that are started find our code."""

import os
import site
import subprocess
import sys
from pathlib import Path

import pytest

import workers.environment
from workers.environment import OUTPUT_IN_UTF8, child_environment

ROOT = Path(__file__).resolve().parent.parent


def test_a_checkout_comes_before_the_users_own_folders(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["/mine", "", "/other"]))
    assert child_environment()["PYTHONPATH"].split(os.pathsep) == [str(ROOT), "/mine", "/other"]


@pytest.mark.parametrize("name", ["site-packages", "dist-packages"])
def test_a_folder_into_which_python_looks_by_itself_is_not_put_before_its_own_modules(tmp_path, monkeypatch, name):
    folder = tmp_path / name
    monkeypatch.setattr(workers.environment, "__file__", str(folder / "workers" / "environment.py"))
    monkeypatch.setattr(site, "getsitepackages", lambda: ["/usr/lib", str(folder)])
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert child_environment()["PYTHONPATH"] == ""


def test_a_folder_of_that_name_into_which_python_does_not_look_is_added(tmp_path, monkeypatch):
    folder = tmp_path / "vendored" / "site-packages"
    monkeypatch.setattr(workers.environment, "__file__", str(folder / "workers" / "environment.py"))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert child_environment()["PYTHONPATH"] == str(folder)


def test_what_goes_to_a_log_is_utf8_whatever_the_locale(monkeypatch):
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("PYTHONUTF8", "0")
    monkeypatch.setenv("PYTHONCOERCECLOCALE", "0")
    script = r"import sys; print('\u732b \udcff'); print('\u732b \udcff', file=sys.stderr)"
    environment = child_environment() | OUTPUT_IN_UTF8
    result = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=True)
    assert result.stdout == result.stderr == "\u732b \\udcff\n".encode()
