"""JSON that every reader takes."""

import io
import json
import math

import numpy as np
import pytest
import torch

from hybrid.verbs import _show
from workers.json_text import escape_unprintable, to_json


def strictly(text):
    return json.loads(text, parse_constant=pytest.fail)


def test_json_has_no_numbers_that_json_does_not_have():
    plain = {"loss": math.nan, "deep": [{"eta": math.inf}], "pair": (1, -math.inf), "fine": 1.5}
    expected = {"loss": None, "deep": [{"eta": None}], "pair": [1, None], "fine": 1.5}
    assert strictly(to_json(plain)) == strictly(to_json(plain, indent=1)) == expected


def test_scalars_of_numpy_and_torch_are_numbers():
    plain = {
        "a": np.float32(0.5),
        "b": np.float64(np.inf),
        "c": np.int64(3),
        "d": torch.tensor(0.25),
        "e": np.bool_(True),
    }
    assert strictly(to_json(plain)) == {"a": 0.5, "b": None, "c": 3, "d": 0.25, "e": True}


def test_verbs_that_ask_a_model_print_it(capsys):
    _show(list, {"images": [{"tags": [{"tag": "花", "score": math.inf}]}]}, json_output=True)
    assert strictly(capsys.readouterr().out) == {"images": [{"tags": [{"tag": "花", "score": None}]}]}


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1", "utf-8"])
def test_what_an_output_cannot_hold_is_written_as_json_writes_it(monkeypatch, encoding):
    """Python's own escapes of characters up to U+00FF and beyond U+FFFF are none of JSON's."""
    output, plain = io.TextIOWrapper(io.BytesIO(), encoding=encoding), {"tag": "é, 花, 🐱, \udce9"}
    monkeypatch.setattr("sys.stdout", output)
    escape_unprintable()
    print(to_json(plain), flush=True)
    written = output.buffer.getvalue().decode(encoding)
    assert strictly(written) == plain and ("é" in written) == (encoding != "ascii")
