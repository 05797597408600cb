"""The figures that this project wants to reach, as data."""

from dataclasses import dataclass

HIGHER, LOWER = "at least", "at most"
OK, SHORT, NOT_MEASURED, NO_GATE = "ok", "short", "not measured", "no gate"
"""Verdicts; `NO_GATE`: a figure that is shown and not judged."""
PAIR = "a pair of example and tag"
"""What rates count, ours and those of rivals. Not every pair writes a row of its own: a negative that is a true tag is
masked, and tags come twice."""
WORDS_THEN = {
    "a row-update": PAIR,
    "row rate": "rate in pairs",
    "all updates on": "all pairs on",
    "time per row": "time per pair",
}
"""What records of earlier commits call pairs: not each of them writes a row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One figure, and what it has to be."""

    name: str
    """Of the measurement that it judges."""
    what: str
    """What is divided by what, or what is counted."""
    direction: str
    """`HIGHER` or `LOWER`: on which side of the gate a value is fine."""
    gate: float
    ambition: float
    suite: str
    """The module of `benchmarks/` that measures it."""
    is_quick: bool = False
    """Whether `make bench-quick` measures it too."""
    least: float | None = None
    """What no value can be below, since one contestant runs the very code of the other, and more."""
    worker_ms: tuple[float, float] | None = None
    """Between which the time that workers needed for a micro-batch has to lie; in samples as `worker_ms`."""

    def holds(self, value: float) -> bool:
        """Whether a value is on the right side of the gate."""
        return _holds(self.direction, value, self.gate)

    def is_ambitious(self, value: float) -> bool:
        """Whether it reaches the ambition."""
        return _holds(self.direction, value, self.ambition)

    def off_target(self, worker_ms: float) -> str:
        """Why what workers of this speed gave is not judged; empty if it may be."""
        least, most = self.worker_ms or (0.0, float("inf"))
        if least <= worker_ms <= most:
            return ""
        return f"workers needed {worker_ms:.3g} ms a micro-batch, not {least:g} to {most:g}"


def _holds(direction: str, value: float, bound: float) -> bool:
    return value >= bound if direction == HIGHER else value <= bound


def _at_least(name: str, suite: str, what: str, gate: float, ambition: float, *, quick: bool = False) -> Gate:
    return Gate(name=name, what=what, direction=HIGHER, gate=gate, ambition=ambition, suite=suite, is_quick=quick)


def _at_most(
    name: str,
    suite: str,
    what: str,
    gate: float,
    ambition: float,
    *,
    quick: bool = False,
    least: float | None = None,
    worker_ms: tuple[float, float] | None = None,
) -> Gate:
    return Gate(
        name=name,
        what=what,
        direction=LOWER,
        gate=gate,
        ambition=ambition,
        suite=suite,
        is_quick=quick,
        least=least,
        worker_ms=worker_ms,
    )


_ROWS = (
    _at_least(
        "ceiling_share_256",
        "kernels",
        "private kernel, D = 256: rate in pairs over the bare read-modify-write ceiling's",
        0.65,
        0.90,
        quick=True,
    ),
    _at_least("ceiling_share_128", "kernels", "private kernel, D = 128: rate in pairs over the ceiling's", 0.60, 0.80),
    _at_least("ceiling_share_512", "kernels", "private kernel, D = 512: rate in pairs over the ceiling's", 0.70, 0.90),
    _at_most(
        "step_over_kernel",
        "kernels",
        "whole worker step, draws included: time over the kernel's",
        1.10,
        1.04,
        quick=True,
        least=1.0,
    ),
    _at_least(
        "step_over_one_pass",
        "kernels",
        "whole worker step against the plain one-pass loop: rate in pairs over its",
        3.5,
        5.0,
        quick=True,
    ),
    _at_most("adagrad_over_sgd", "kernels", "row-wise Adagrad: time over SGD's", 1.12, 1.05, quick=True),
    _at_least(
        "bfloat16_rate",
        "kernels",
        "bfloat16 rows, stochastic rounding: rate in pairs over float32's",
        1.2,
        1.5,
        quick=True,
    ),
    _at_most("bfloat16_memory", "kernels", "memory of bfloat16 rows: bytes over float32's", 0.5, 0.5, quick=True),
    _at_most("bfloat16_10m_over_1m", "kernels", "10M bfloat16 rows: time per pair over that of 1M", 1.35, 1.15),
    _at_most("step_1m_over_10k", "scaling", "worker step at 1M tags: time over that at 10K, same negatives", 2.0, 1.4),
    _at_most(
        "shared_64_over_private_20",
        "kernels",
        "64 negatives shared by 256 examples: time over 20 private ones",
        0.85,
        0.5,
        quick=True,
    ),
    _at_least(
        "shared_over_torch",
        "peers",
        "shared kernel, 1,024 negatives: rate over torch's GEMMs with autograd, one thread",
        2.5,
        4.0,
    ),
    _at_least(
        "two_workers", "scaling", "2 workers on one matrix: rate in pairs over 1 worker's", 1.5, 1.85, quick=True
    ),
    _at_least(
        "two_workers_hot",
        "scaling",
        "2 workers, all pairs on 100 rows: rate in pairs over 1 worker's",
        1.2,
        1.8,
        quick=True,
    ),
    _at_most(
        "wire_over_kernel",
        "transport",
        "engine and wire, two chunks in flight, the default transport: time over the engine's alone",
        1.15,
        1.05,
        quick=True,
        least=1.0,
    ),
    _at_most(
        "pipeline_waiting",
        "pipeline_efficiency",
        "trunk of 20 ms forward and 40 ms backward, workers that need 5 to 6 ms a micro-batch: share of time waited",
        0.02,
        0.01,
        worker_ms=(5.0, 6.0),
    ),
    _at_least("gensim", "peers", "against gensim Word2Vec (sg, 20 negatives), one core: our rate over its", 1.7, 3.0),
    _at_least("fasttext", "peers", "against fastText (supervised, ns), one core: our rate over its", 12.0, 25.0),
    _at_least(
        "torch_sparse_sgd",
        "peers",
        "against torch Embedding(sparse=True), SGD, one core: our rate over its",
        12.0,
        25.0,
    ),
    _at_least("fbgemm", "peers", "against fbgemm TBE, row-wise Adagrad, one core: our rate over its", 12.0, 25.0),
    _at_least("torch_hogwild", "peers", "against torch Hogwild, 2 processes: 2 workers' rate over theirs", 15.0, 30.0),
    _at_least("pbg_comparator", "peers", "against PyTorch-BigGraph's comparator: our rate in pairs over its", 3.0, 5.0),
    _at_least(
        "dense_bce_step",
        "peers",
        "against torch dense BCE, its step over all 1M tags, ours over those drawn: its step time over ours",
        3000.0,
        15000.0,
    ),
    _at_least(
        "dense_bce_memory",
        "peers",
        "against dense BCE in chunks with torch.optim.Adagrad: its peak memory (sum of Pss) over a worker's",
        2.0,
        3.0,
    ),
)

GATES = {gate.name: gate for gate in _ROWS}


def words_of_today(what: str) -> str:
    """What a figure without a gate is called today."""
    for then, today in WORDS_THEN.items():
        what = what.replace(then, today)
    return what


def gates_of(suite: str, *, quick: bool) -> list[Gate]:
    """The gates that a suite judges, in the order of the table; with `quick` only those of the quick run."""
    return [gate for gate in _ROWS if gate.suite == suite and (gate.is_quick or not quick)]
