"""What the suite of the wire judges and shows."""

from contextlib import closing

import pytest

from benchmarks.engine_work import PRIVATE, make_matrix
from benchmarks.gates import GATES
from benchmarks.id_streams import BATCH, NEGATIVES, POSITIVES
from benchmarks.transport import measurements
from benchmarks.turns import Round, Sample, Turns
from benchmarks.wire import Wire
from workers.config import DEFAULT_TRANSPORT, TRANSPORTS
from workers.phase_clock import PHASES


@pytest.mark.parametrize("faster", TRANSPORTS)
def test_the_default_transport_is_judged_whichever_is_faster(faster):
    seconds = {name: 1.1 if name == faster else 1.3 for name in TRANSPORTS}
    samples = {name: Sample(s, 1e6, 1.0) for name, s in {"kernel": 0.9, "engine": 1.0, **seconds}.items()}
    judged, *others = measurements(Turns([Round(samples, 0.0, "")] * 9, wanted=9), {"starts": 5}, [])
    assert judged.gate is GATES["wire_over_kernel"] and judged.values == pytest.approx([seconds[DEFAULT_TRANSPORT]] * 9)
    assert judged.samples["facts"] == {"starts": 5, "transport": DEFAULT_TRANSPORT}
    shown = {other.name: other.values[0] for other in others if other.unit == "x"}
    expected = {f"wire_over_kernel_{n}": s for n, s in seconds.items() if n != DEFAULT_TRANSPORT}
    ours, alone = seconds[DEFAULT_TRANSPORT], {"wire_over_kernel_alone": seconds[DEFAULT_TRANSPORT] / 0.9}
    paired = {f"{n}_over_{DEFAULT_TRANSPORT}": s / ours for n, s in seconds.items() if n != DEFAULT_TRANSPORT}
    assert shown == pytest.approx(expected | alone | paired)


def test_phases_of_the_default_transports_worker_are_shown_by_round():
    samples = {name: Sample(1.0, 1e6, 1.0) for name in ("kernel", "engine", *TRANSPORTS)}
    chunk_us = [dict.fromkeys(PHASES, number) for number in (10.0, 30.0, 20.0)]
    shown = measurements(Turns([Round(samples, 0.0, "")] * 9, wanted=9), {}, chunk_us)[-len(PHASES) :]
    assert [one.name for one in shown] == [f"wire_{phase}" for phase in PHASES]
    assert all((one.unit, one.spread.median, one.gate) == ("us", 20.0, None) for one in shown)


def test_phases_of_a_worker_behind_a_wire_fill_its_rounds():
    with closing(make_matrix(1_000, PRIVATE)) as matrix, Wire(matrix, DEFAULT_TRANSPORT) as wire:
        wire.begin(0.05)
        sample = wire.end()
    (chunk_us,) = wire.chunk_us
    num_chunks = sample.units / (BATCH * (POSITIVES + NEGATIVES))
    assert sum(chunk_us.values()) == pytest.approx(1e6 * sample.seconds / num_chunks)
    assert chunk_us.keys() == PHASES.keys() and min(chunk_us.values()) > 0
