"""What the deep side's verbs print."""

from hybrid.verbs import _show


def test_paths_are_printed_as_they_are(capsys):
    lines = ["Written: cats [v2].html", "Written: [/x].png"]
    _show(lambda: lines, {}, json_output=False)
    assert capsys.readouterr().out.splitlines() == lines
