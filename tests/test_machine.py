"""What a record says of the code that was measured."""

import subprocess

import pytest

from benchmarks import machine
from benchmarks.record import RESULTS
from benchmarks.report import DOCUMENTS, REPORT

CODE = ("benchmarks/machine.py", "docs/performance.md", "workers/engine.py")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A commit of code and of what is generated, in which the module believes to stand."""

    def git(*arguments):
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True, capture_output=True)

    for name in (*CODE, "benchmarks/results/x.json", *machine.GENERATED[1:]):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("before")
    git("init")
    git("add", ".")
    git("-c", "user.name=n", "-c", "user.email=n@example.org", "commit", "-m", "all")
    monkeypatch.setattr(machine, "__file__", str(tmp_path / "benchmarks" / "machine.py"))
    return tmp_path


def test_what_benchmarks_write_is_no_change_of_code(repository):
    assert machine._is_modified() is False
    for name in ("benchmarks/results/x.json", *machine.GENERATED[1:]):
        (repository / name).write_text("after")
    assert machine._is_modified() is False


@pytest.mark.parametrize("name", CODE)
def test_a_change_of_code_is_seen(repository, name):
    (repository / name).write_text("after")
    assert machine._is_modified() is True


def test_all_that_reports_write_is_generated():
    root = RESULTS.parents[1]
    written = {str(path.relative_to(root)) for path in (RESULTS, REPORT, *DOCUMENTS)}
    assert written == set(machine.GENERATED)
