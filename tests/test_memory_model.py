"""The prediction of memory against arrays that exist, and the bisection that checks it."""

import signal
import subprocess

import numpy as np
import pytest
import torch

from benchmarks.contender import RIVALS
from benchmarks.curve_settings import KINDS, RIVAL_NAMES
from benchmarks.memory_limits import bisect, run_trial_in_process
from benchmarks.memory_model import NEEDS, StepShape, largest_num_tags, on_cards
from benchmarks.memory_report import report_text
from benchmarks.memory_trial import FITS, FULL, TrialSettings, is_of_memory
from benchmarks.record import Record, read_record
from benchmarks.rival_head import Setting
from benchmarks.true_tags import TrueTags
from hybrid.head import WideHead
from workers.config import HeadConfig
from workers.errors import MatrixMismatch, RunError

N, D, B, T = 3000, 16, 8, 4
SHAPE = StepShape(dim=D, batch_size=B, positives=T, tags_per_example=T)


def tensors_of(thing, seen):
    """Bytes of every tensor reachable from an object's attributes, each storage once."""
    if isinstance(thing, torch.Tensor):
        return seen.setdefault(thing.untyped_storage().data_ptr(), thing.untyped_storage().nbytes())
    if isinstance(thing, Setting | TrueTags | str | bytes | np.ndarray):
        return None
    values = thing.values() if isinstance(thing, dict) else thing if isinstance(thing, list | tuple) else None
    for value in values if values is not None else getattr(thing, "__dict__", {}).values():
        tensors_of(value, seen)
    return None


@pytest.mark.parametrize("kind", RIVAL_NAMES)
def test_rows_and_state_are_counted_to_the_byte(kind):
    setting = Setting(
        config=HeadConfig(),
        counts_N=np.ones(N, np.int64),
        marginal_N=np.full(N, 1 / N),
        num_train_items=B,
        dim=D,
        positives=T,
        seed=0,
        device=torch.device("cpu"),
        precision=torch.float32,
        true_tags=TrueTags(np.arange(B + 1) * T, np.tile(np.arange(T), B), torch.device("cpu")),
    )
    head, seen = RIVALS[kind](setting), {}
    head.learn(torch.randn(B, D), np.arange(B))
    tensors_of(head, seen)
    need = NEEDS[kind](N, SHAPE)
    small = 4096  # step counters, random states
    assert need.rows + need.state <= sum(seen.values()) <= need.rows + need.state + small * 2


def test_the_hybrid_keeps_its_matrix_in_host_memory():
    with WideHead(N, D, workers=1, negatives=4) as head:
        matrix = head.matrix.nbytes
    need = NEEDS["hybrid"](N, SHAPE)
    assert matrix < need.host < matrix + 64 * N
    assert need.device == NEEDS["hybrid"](100 * N, SHAPE).device < 1 << 20


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gib", [1, 24])
def test_one_tag_more_than_the_largest_does_not_fit(kind, gib):
    most = largest_num_tags(kind, SHAPE, gib * 2**30, of=lambda need: need.total)
    assert NEEDS[kind](most, SHAPE).total <= gib * 2**30 < NEEDS[kind](most + 1, SHAPE).total
    assert largest_num_tags(kind, SHAPE, 1, of=lambda need: need.total) == 0


@pytest.mark.parametrize("truth", [1000, 1001, 1099, 1101, 30, 90_000])
def test_bisection_encloses_the_truth_however_wrong_the_guess(truth):
    tried = []

    def fits(num_tags):
        tried.append(num_tags)
        return num_tags <= truth

    low, high = bisect(fits, 1000, 0.05)
    assert low <= truth < high and high - low <= 50
    assert not 900 <= truth < 1100 or len(tried) <= 5


def test_bisection_ends_where_no_number_is_left_between():
    assert bisect(lambda num_tags: num_tags <= 1003, 1000, 1e-9) == (1003, 1004)


@pytest.mark.parametrize("answer", [True, False])
def test_bisection_gives_up_on_trials_that_always_say_the_same(answer):
    with pytest.raises(RunError, match="a hundred times away"):
        bisect(lambda num_tags: answer, 1000, 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_trials_fit_below_the_limit_and_are_full_above_it(kind):
    limit = 256 << 20
    shape = StepShape(dim=64, batch_size=8, positives=T, tags_per_example=T)
    most = largest_num_tags(kind, shape, limit, of=lambda need: need.total)
    for share, outcome in ((0.7, FITS), (1.3, FULL)):
        settings = TrialSettings(kind=kind, num_tags=int(share * most), shape=shape, limit_bytes=limit)
        assert run_trial_in_process(settings) == outcome


def test_a_trial_that_fails_for_another_reason_is_an_error():
    shape = StepShape(dim=-1, batch_size=8, positives=T, tags_per_example=T)
    settings = TrialSettings(kind="dense", num_tags=100, shape=shape, limit_bytes=1 << 30)
    with pytest.raises(RunError, match="RuntimeError"):
        run_trial_in_process(settings)


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS])
def test_a_signal_is_memory_that_is_short_for_a_rival_and_a_defect_for_us(monkeypatch, number):
    ended = subprocess.CompletedProcess([], -number, stdout="", stderr="terminate called")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: ended)
    for kind in RIVALS:
        assert run_trial_in_process(TrialSettings(kind=kind, num_tags=N, shape=SHAPE, limit_bytes=1)) == FULL
    with pytest.raises(RunError, match=f"ended with {-number}: terminate called"):
        run_trial_in_process(TrialSettings(kind="hybrid", num_tags=N, shape=SHAPE, limit_bytes=1))


def test_the_table_calls_a_wrong_prediction_wrong_and_predicts_cards(tmp_path):
    record = Record("memory_limits", "A title", {})
    for kind, error in (("dense", 0.02), ("hybrid", -0.3)):
        record.add(
            {
                "contender": kind,
                "shape": {"dim": 256, "batch_size": 32},
                "limit_bytes": 2 << 30,
                "predicted_num_tags": 1000,
                "fits_num_tags": 900,
                "full_num_tags": 1100,
                "error": error,
                "on_cards": on_cards(kind),
            }
        )
    text = report_text(read_record(record.write(tmp_path)))
    assert "| dense BCE in chunks | 1,000 | 900 | 1,100 | -9.1% to +11.1% |" in text
    assert "| hybrid (host memory) | 1,000 | 900 | 1,100 | -9.1% to +11.1% **wrong** |" in text
    assert text.index("| dense BCE in chunks | 16.3 |") < text.rindex("| hybrid (host memory) | 14.7 |")


@pytest.mark.parametrize(
    ("error", "is_full"),
    [
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("can't start new thread"), True),
        (RuntimeError("expected scalar type Float"), False),
        (MatrixMismatch("the rows could not be filled"), False),
    ],
)
def test_memory_that_is_short_is_told_from_defects_wherever_it_shows(error, is_full):
    assert is_of_memory(error) == is_full
    outer = MatrixMismatch("the owner of the tag matrix could not fill its rows")
    outer.__cause__ = error
    assert is_of_memory(outer) == is_full
