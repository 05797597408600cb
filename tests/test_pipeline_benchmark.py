"""The trunk of modelled latency and the plot of what waits beside it."""

import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import benchmarks.latency_trunk
import benchmarks.pipeline_rig
import benchmarks.turns
from benchmarks import pipeline_efficiency
from benchmarks.calibration import TOLERANCE, Calibration
from benchmarks.gates import NOT_MEASURED, OK
from benchmarks.latency_trunk import LatencyTrunk
from benchmarks.measurement import Measurement
from benchmarks.pipeline_efficiency import GATE, GATED_MS, _measurement, gated
from benchmarks.pipeline_model import model_text, modelled_share, trunk_work
from benchmarks.pipeline_plot import plot_of, write_plot
from benchmarks.pipeline_rig import Waiting
from benchmarks.pipeline_scaling import Stepping, measurements, modelled_step_s, name_of
from benchmarks.record import Record, read_record
from benchmarks.result_pages import judged_page
from benchmarks.turns import take_turns
from benchmarks.verdicts import judged_again
from benchmarks.waiting_trunk import BACKWARD_S, FORWARD_S, WaitingTrunk, waiting_cnn_small
from hybrid.shadow import shadow_s
from hybrid.trunks import build_trunk
from launch.config import TrunkConfig
from workers.errors import DataError

SHADOW_MS = 11.0
"""Of the trunk in made-up records: features are with workers when shipped, 10 + 1 ms before the second's are."""
STEP_S = 0.064
"""Of a scripted step, by the clock; its phases need not fill it."""


@pytest.fixture
def pauses(monkeypatch):
    """The seconds that would have been slept."""
    asked = []
    monkeypatch.setattr(benchmarks.latency_trunk, "pause", asked.append)
    return asked


class ScriptedRig:
    """Steps of known phases without workers, on a clock that moves by `step_s` with each."""

    def __init__(self, wait_s, worker_s, step_s=STEP_S):
        self.wait_s, self.worker_s, self.step_s = wait_s, worker_s, step_s
        self.now_s = 100.0

    def step(self, negatives):
        self.now_s += self.step_s
        return {"forward": 0.02, "ship": 0.002, "backward": 0.04, "wait": self.wait_s}, self.worker_s


class IdleMachine:
    def start(self):
        pass

    def foreign_cores(self):
        return 0.0


class Quiet:
    def stage(self, *_):
        pass

    round = stage


def test_a_pause_is_not_shorter_than_asked():
    start_s = benchmarks.latency_trunk.time.perf_counter()
    benchmarks.latency_trunk.pause(0.003)
    assert benchmarks.latency_trunk.time.perf_counter() - start_s >= 0.003
    benchmarks.latency_trunk.pause(0.0)


def test_latency_changes_neither_features_nor_gradients(pauses):
    torch.manual_seed(0)
    inputs, grad = torch.randn(5, 8), torch.randn(5, 8)
    trunk = LatencyTrunk(8, forward_s=0.01, backward_s=0.02)
    with torch.no_grad():
        trunk.scale_D.uniform_(1, 2)
    features = trunk(inputs)
    assert torch.equal(features, inputs * trunk.scale_D) and pauses == [0.01]
    features.backward(grad)
    torch.testing.assert_close(trunk.scale_D.grad, (inputs * grad).sum(0))
    assert pauses == [0.01, 0.02]


def test_each_micro_batch_takes_its_own_time(pauses):
    trunk = LatencyTrunk(4, 0.1, 0.2)
    parts = [trunk(torch.ones(2, 4)) for _ in range(3)]
    for part in parts:
        part.sum().backward()
    assert pauses == [0.1] * 3 + [0.2] * 3


def test_a_waiting_trunk_waits_in_training_alone(pauses):
    torch.manual_seed(0)
    inner = nn.Linear(3, 4)
    trunk, inputs = WaitingTrunk(inner, 0.1, 0.2), torch.randn(2, 3)
    assert torch.equal(trunk.eval()(inputs), inner(inputs)) and pauses == []
    trunk.train()(inputs).sum().backward()
    assert pauses == [0.1, 0.2] and inner.weight.grad is not None


def test_the_waiting_trunk_can_be_named_on_the_command_line(pauses):
    trunk = build_trunk(TrunkConfig(factory="benchmarks.waiting_trunk:waiting_cnn_small", dim=8), 32)
    assert type(trunk) is type(waiting_cnn_small(8, 32))
    trunk(torch.randn(2, 3, 32, 32)).sum().backward()
    assert pauses == [FORWARD_S, BACKWARD_S]


@pytest.fixture
def measured(monkeypatch):
    def measure(wait_ms, worker_ms, gate=None, rounds=2):
        rig = ScriptedRig(wait_ms / 1000, worker_ms / 1000)
        monkeypatch.setattr(benchmarks.pipeline_rig, "time", SimpleNamespace(perf_counter=lambda: rig.now_s))
        monkeypatch.setattr(benchmarks.turns, "LoadMeter", IdleMachine)
        waiting, name = Waiting(rig, negatives=99), f"{worker_ms:g} ms"
        turns = take_turns({name: waiting}, rounds=rounds, round_s=2.5 * STEP_S, progress=Quiet())
        return _measurement(name, waiting, turns, gate)

    return measure


def test_what_is_measured_is_the_share_of_time_waited(measured):
    found = measured(3.0, 7.5)
    assert found.values == pytest.approx([0.003 / STEP_S] * 2)
    assert len(found.samples["wait_ms_of_steps"]) == 3 * 3, "three steps until 2.5 are over; two rounds and a warm-up"
    assert found.name == "pipeline_waiting_7.50_ms" and found.gate is None, "called by the time that was measured"
    samples = found.samples
    assert samples["negatives"] == 99 and samples["worker_ms"] == pytest.approx(7.5)
    assert samples["trunk_ms"] == pytest.approx({"forward": 10.0, "ship": 1.0, "backward": 20.0})
    assert set(samples["wait_ms_of_steps"]) == {3.0}


def test_a_second_worker_is_judged_by_steps_a_second(monkeypatch):
    rigs = [ScriptedRig(0.030, 0.025, step_s=0.090), ScriptedRig(0.005, 0.0125, step_s=0.060)]
    clock = SimpleNamespace(perf_counter=lambda: sum(rig.now_s for rig in rigs))
    monkeypatch.setattr(benchmarks.pipeline_rig, "time", clock)
    monkeypatch.setattr(benchmarks.turns, "LoadMeter", IdleMachine)
    contestants = {name_of(i + 1): Stepping(Waiting(rig, negatives=99)) for i, rig in enumerate(rigs)}
    turns = take_turns(contestants, rounds=2, round_s=0.2, progress=Quiet())
    ratio, alone, together = measurements(contestants, turns)
    assert ratio.values == pytest.approx([1.5] * 2) and "99 negatives" in ratio.what
    assert alone.values == pytest.approx([90] * 2) and together.values == pytest.approx([60] * 2)
    assert "1 worker: 25.0 ms a micro-batch" in alone.what and "2 workers: 12.5 ms" in together.what
    hidden_s = 0.010 + 0.001  # of forward and ship, for the first micro-batch; a modelled step is 62 ms and what waits
    assert modelled_step_s(contestants["2 workers"].waiting) == pytest.approx(0.062 + 0.0125 - hidden_s)


def test_the_gate_is_on_workers_of_its_speed(measured):
    for worker_ms, verdict in ((4.99, NOT_MEASURED), (5.01, OK), (GATED_MS, OK), (5.99, OK), (6.01, NOT_MEASURED)):
        found = measured(0.1, worker_ms, GATE, rounds=9)
        assert (found.gate, found.verdict()[0]) == (GATE, verdict)
        stored = {**found.as_json(), "verdict": OK, "reason": ""}
        assert judged_again(stored)["verdict"] == verdict, "of records that an earlier commit wrote, too"
    assert found.verdict()[1] == "workers needed 6.01 ms a micro-batch, not 5 to 6"


def test_the_gate_is_tried_again_while_workers_are_of_another_speed(monkeypatch):
    speeds = iter([4.4, 5.2, 5.3])

    def take_turns_on(rig, worker_ms, options, progress, gate):
        return [SimpleNamespace(samples={"worker_ms": next(speeds)})]

    monkeypatch.setattr(pipeline_efficiency, "take_turns_on", take_turns_on)
    assert gated(None, None, None).samples["worker_ms"] == 5.2


@pytest.mark.parametrize("wanted_ms", [[2.5], [5.5, 11.0, 22.0], [9.0, 9.0, 9.1]])
@pytest.mark.parametrize("bend", [0.0, 2e-12], ids=["line", "bent"])
def test_calibration_ends_within_its_tolerance_on_workers_that_become_faster(wanted_ms, bend):
    measured = {}

    def typical_s(number):
        hurry = max(0.8, 1.0 - 0.02 * len(measured))
        measured[number] = hurry * (0.001 + 4e-7 * number + bend * number**2)
        return measured[number]

    wanted_s = [ms / 1000 for ms in wanted_ms]
    negatives = Calibration(typical_s).negatives_for(wanted_s)
    assert sorted(set(negatives)) == negatives, "more for a longer time"
    assert [typical_s(number) for number in negatives] == pytest.approx(wanted_s, rel=2 * TOLERANCE)


def test_what_nothing_reaches_gets_the_nearest_that_was_tried():
    assert Calibration(lambda number: 0.004).negatives_for([0.0041])[0] > 0
    assert Calibration(lambda number: 0.004 + 1e-6 * number).negatives_for([0.001]) == [1]


def test_the_model_waits_beyond_the_shadow():
    work = trunk_work({"samples": {"trunk_ms": {"forward": 10.0, "ship": 1.0, "backward": 20.0}}})
    assert modelled_share(shadow_s(work, 2), work) == 0.0
    assert modelled_share(0.021, work) == pytest.approx(0.011 / 0.073)  # 10 + 1 hide; beyond 20 B waits too: 1


def recorded(folder, shares):
    """The record of measured shares, by worker time in ms, beside a trunk of 10 + 1 + 20 ms."""
    record = Record("pipeline_efficiency", "Waiting", {})
    for worker_ms, share in shares.items():
        samples = {"worker_ms": worker_ms, "trunk_ms": {"forward": 10.0, "ship": 1.0, "backward": 20.0}}
        record.add(Measurement("some", "what", "", [share] * 9, "", samples).as_json())
    return record.write(folder)


def test_the_plot_shows_the_knee(tmp_path):
    path = recorded(tmp_path, {5.0: 0.002, 21.0: 0.15})
    (axes,) = plot_of(read_record(path)).axes
    model, knee = (next(line for line in axes.lines if words in line.get_label()) for words in ("model", "shadow"))
    waits_from_ms = min(ms for ms, share in zip(*model.get_data(), strict=True) if share > 0)
    assert list(knee.get_xdata()) == pytest.approx([SHADOW_MS] * 2) and waits_from_ms == pytest.approx(
        SHADOW_MS, abs=0.2
    )
    plot = write_plot(path)
    assert plot.name == "pipeline_efficiency.svg" and plot.read_text().count("<svg") == 1


@pytest.mark.parametrize(
    ("waits_beyond_ms", "says"),
    [
        (SHADOW_MS, "at 5.0 ms: 0.1 points more than the model's"),
        (SHADOW_MS + 5.0, "at 16.0 ms: 7.5 points less than the model's"),
        (SHADOW_MS - 5.0, "at 11.0 ms: 7.5 points more than the model's"),
    ],
    ids=["follow", "wait too late", "wait too early"],
)
def test_the_report_says_how_far_measured_shares_are_from_the_model(tmp_path, waits_beyond_ms, says):
    """Points that have their knee elsewhere are told from those that follow the model."""

    def share(worker_ms):
        waited_ms = max(0.0, worker_ms - waits_beyond_ms)
        return waited_ms / (2 * 31.0 + waited_ms)

    record = read_record(recorded(tmp_path, {5.0: 0.001, **{ms: share(ms) for ms in (8.0, 11.0, 16.0)}}))
    assert says in model_text(record) and "more than 11.0 ms" in model_text(record)
    assert model_text(record) in judged_page(record)


def test_without_points_the_report_says_nothing_of_the_model(tmp_path):
    assert model_text(read_record(recorded(tmp_path, {}))) == ""


def test_without_rounds_that_count_there_is_no_plot(tmp_path):
    record = Record("pipeline_efficiency", "Waiting", {})
    record.add(Measurement("some", "what", "", [], "busy machine").as_json())
    with pytest.raises(DataError, match="no round counts"):
        write_plot(record.write(tmp_path))
    assert json.loads((tmp_path / "pipeline_efficiency.json").read_text())["results"][0]["values"] == []
