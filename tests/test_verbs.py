"""What the deep side's verbs print, and their exit status."""

import pytest

import hybrid.__main__
import hybrid.verbs
from hybrid.verbs import _show
from workers.errors import ConfigError, DataError


def test_paths_are_printed_as_they_are(capsys):
    lines = ["Written: cats [v2].html", "Written: [/x].png", f"Prepared in /{'long name/' * 30}view"]
    _show(lambda: lines, {}, json_output=False)
    assert capsys.readouterr().out.splitlines() == lines


@pytest.mark.parametrize(
    "verb", [["evaluate", "run", "--map-least", "2", "--map-most", "50"], ["annotate", "run", "a.png", "--k", "1"]]
)
def test_a_run_is_asked_on_the_device_that_was_named(monkeypatch, verb):
    asked = []

    def load(directory, device, data=None):
        asked.append((str(directory), device))
        raise DataError("far enough")

    monkeypatch.setattr("hybrid.verbs._quiet", lambda: None)  # logging belongs to all tests of this process
    monkeypatch.setattr("hybrid.loaded.load", load)
    for options, device in ((["--device", "cuda:1"], "cuda:1"), ([], None)):
        with pytest.raises(DataError, match="far enough"):
            hybrid.verbs.verbs([*verb, "--score", "lift", *options], standalone_mode=False)
        assert asked.pop() == ("run", device)


@pytest.mark.parametrize(("error", "status"), [(ConfigError, 2), (DataError, 1)])
def test_a_setting_that_cannot_be_has_the_status_that_it_has_in_the_launcher(monkeypatch, capsys, error, status):
    def fail(**options):
        raise error("no such thing")

    monkeypatch.setattr(hybrid.verbs, "verbs", fail)
    monkeypatch.setattr(hybrid.__main__, "end_quietly_when_interrupted", lambda: None)  # Ctrl-C here is pytest's
    with pytest.raises(SystemExit) as caught:
        hybrid.__main__.main()
    assert caught.value.code == status
    assert capsys.readouterr().err == "Error: no such thing\n"
