"""Ctrl-C while a command still loads, or works: one line and status 130, in whichever instant it comes."""

import signal
import subprocess
import sys
import threading

import pytest
from scripted_trunk import ROOT, launcher_environment

import launch.deep_verb
from launch.deep_verb import run_deep_verb
from workers.quiet_interrupt import INTERRUPTED_STATUS, end_quietly_when_interrupted, interrupts_held_back

SIGINT_AT_IMPORT = """
import signal, sys
signal.signal(signal.SIGINT, signal.{before})
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
sys.argv[1:] = {arguments!r}
"""
CONSOLE = "from hybrid.console import main; main()"
MODULE = "import runpy; runpy.run_module({!r}, run_name='__main__', alter_sys=True)"


def run(module, arguments, start, folder, before="default_int_handler"):
    code = SIGINT_AT_IMPORT.format(module=module, arguments=arguments, before=before) + start
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**launcher_environment(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("module", "arguments", "start"),
    [
        ("launch.cli", ["--version"], CONSOLE),
        ("launch.cli", ["--version"], MODULE.format("launch")),
        ("launch.run_end", ["status"], CONSOLE),
        ("launch.train", ["train"], CONSOLE),
        ("hybrid.verbs", ["--help"], MODULE.format("hybrid")),
    ],
    ids=["console-loads", "module-loads", "verb-loads", "train-loads", "deep-side-loads"],
)
def test_ctrl_c_while_a_command_loads_is_one_line_and_leaves_nothing(tmp_path, module, arguments, start):
    result = run(module, arguments, start, tmp_path)
    assert result.stderr.strip() == "Interrupted." and result.stdout == ""
    assert result.returncode == INTERRUPTED_STATUS == 130
    assert not list(tmp_path.glob("runs/*"))


def test_a_command_that_a_script_put_in_the_background_is_not_interrupted(tmp_path):
    result = run("launch.cli", ["--version"], CONSOLE, tmp_path, before="SIG_IGN")
    assert result.returncode == 0, result.stderr


def test_ctrl_c_while_one_program_becomes_another_waits_until_that_is_ready():
    started = "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT]); "
    raised = "os.kill(os.getpid(), signal.SIGINT); os.execv(sys.executable, [sys.executable, '-m', 'hybrid', '--help'])"
    result = subprocess.run([sys.executable, "-c", started + raised], cwd=ROOT, capture_output=True, text=True)
    assert result.stderr.strip() == "Interrupted." and result.returncode == INTERRUPTED_STATUS


def test_a_verb_of_the_deep_side_starts_with_interrupts_held_back(monkeypatch):
    def see(*arguments):
        held.append(signal.pthread_sigmask(signal.SIG_BLOCK, []))

    held = []
    monkeypatch.setattr(launch.deep_verb.os, "execve", see)
    run_deep_verb("search", [], {})
    assert signal.SIGINT in held[0]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, []), "where the other cannot start"


def test_a_verb_of_the_deep_side_starts_where_a_shell_closed_the_output(monkeypatch):
    monkeypatch.setattr(launch.deep_verb.os, "execve", lambda *arguments: started.append(arguments))
    monkeypatch.setattr("sys.stdout", None)
    started = []
    run_deep_verb("search", [], {})
    assert started


def test_a_second_ctrl_c_does_not_wait_for_what_the_first_began():
    second = (
        "try:\n signal.raise_signal(signal.SIGINT)\nfinally:\n signal.raise_signal(signal.SIGINT)\n print('waited')"
    )
    code = f"import signal; from workers.quiet_interrupt import *; end_quietly_when_interrupted()\n{second}"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == -signal.SIGINT and result.stdout == ""


def test_a_handler_of_somebody_else_stays():
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    seen = []
    try:
        with interrupts_held_back():
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)  # other threads would take it at once
            assert not seen
            end_quietly_when_interrupted()
            assert seen == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)
