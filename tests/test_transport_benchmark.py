"""What the gate on the wire judges."""

import pytest

from benchmarks.gates import GATES
from benchmarks.transport import measurements
from benchmarks.turns import Round, Sample, Turns
from workers.config import DEFAULT_TRANSPORT, TRANSPORTS


@pytest.mark.parametrize("faster", TRANSPORTS)
def test_the_default_transport_is_judged_whichever_is_faster(faster):
    seconds = {name: 1.1 if name == faster else 1.3 for name in TRANSPORTS}
    samples = {name: Sample(s, 1e6, 1.0) for name, s in {"kernel": 0.9, "engine": 1.0, **seconds}.items()}
    judged, *others = measurements(Turns([Round(samples, 0.0, "")] * 9, wanted=9), {"starts": 5})
    assert judged.gate is GATES["wire_over_kernel"] and judged.values == pytest.approx([seconds[DEFAULT_TRANSPORT]] * 9)
    assert judged.samples["facts"] == {"starts": 5, "transport": DEFAULT_TRANSPORT}
    shown = {other.name: other.values[0] for other in others if other.unit == "x"}
    expected = {f"wire_over_kernel_{n}": s for n, s in seconds.items() if n != DEFAULT_TRANSPORT}
    ours, alone = seconds[DEFAULT_TRANSPORT], {"wire_over_kernel_alone": seconds[DEFAULT_TRANSPORT] / 0.9}
    paired = {f"{n}_over_{DEFAULT_TRANSPORT}": s / ours for n, s in seconds.items() if n != DEFAULT_TRANSPORT}
    assert shown == pytest.approx(expected | alone | paired)
