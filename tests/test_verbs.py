"""What the deep side's verbs print, and their exit status."""

import pytest

import hybrid.__main__
from hybrid.verbs import _show
from workers.errors import ConfigError, DataError


def test_paths_are_printed_as_they_are(capsys):
    lines = ["Written: cats [v2].html", "Written: [/x].png", f"Prepared in /{'long name/' * 30}view"]
    _show(lambda: lines, {}, json_output=False)
    assert capsys.readouterr().out.splitlines() == lines


@pytest.mark.parametrize(("error", "status"), [(ConfigError, 2), (DataError, 1)])
def test_a_setting_that_cannot_be_has_the_status_that_it_has_in_the_launcher(monkeypatch, capsys, error, status):
    def fail(**options):
        raise error("no such thing")

    monkeypatch.setattr(hybrid.__main__, "verbs", fail)
    with pytest.raises(SystemExit) as caught:
        hybrid.__main__.main()
    assert caught.value.code == status
    assert capsys.readouterr().err == "Error: no such thing\n"
