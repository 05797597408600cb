"""A rival, and how it is compared with a worker's step."""

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.contestant_process import RIVALS, ROOT, ContestantLost, ProcessContestant
from benchmarks.engine_work import DIM
from benchmarks.gates import PAIR
from benchmarks.id_streams import NEGATIVE_EXPONENT, POSITIVES
from benchmarks.measurement import Floor, Measurement
from benchmarks.progress import Progress
from benchmarks.rivals.same_start import LEARNING_RATE
from benchmarks.suite_options import SuiteOptions
from benchmarks.turns import Turns
from workers.config import HeadConfig
from workers.settings import to_plain

NUM_TAGS = 1_000_000
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
HOW_TO_INSTALL = "make setup-peers"
OURS = "ours"
_STARTS = 3
"""How often processes are started anew: what their memory happens to lie on stays with each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BareWork:
    """The part of this work that a worker cannot do without, as a contestant of its own."""

    module: str
    """In `benchmarks`; prepared with our head's settings."""
    what: str
    is_limit: bool = True
    """False where a worker has its own way to do it, which may be faster."""


REWRITING = BareWork(module="ceiling_contestant", what="rewriting the row of every pair")
PRODUCTS = BareWork(module="products_contestant", what="the three products by NumPy's BLAS", is_limit=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A rival in one or several forms, the first of which is judged, and what a worker does meanwhile."""

    name: str
    """Of the gate."""
    module: str
    """In `benchmarks.rivals`."""
    forms: Mapping[str, Mapping[str, Any]]
    """What each form is, to the settings that it needs beside `num_tags` and `dim`."""
    head: HeadConfig
    """Ours: the kernel and optimizer that do the same."""
    positives: int = POSITIVES
    exponent: float = NEGATIVE_EXPONENT
    """Of the law that our negatives are drawn by."""
    has_own_environment: bool = True
    """False for torch, which is here anyway."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that its process gets beside those of every contestant."""
    bare: BareWork | None = None
    """Which limit there is to our rate, or what else to compare it with."""
    dim: int = DIM
    what: str = ""
    """What the ratio is, if no gate says it."""

    @property
    def python(self) -> Path:
        """The interpreter that has its library."""
        return PEERS_PYTHON if self.has_own_environment else Path(sys.executable)


def same_head(head: HeadConfig) -> dict[str, Any]:
    """Settings for `engine_contestant`, learning as slowly as everybody."""
    return to_plain(head) | {"row_lr": LEARNING_RATE}


def compare(peer: Peer, options: SuiteOptions, progress: Progress) -> list[Measurement]:
    """Let the forms of a rival and a worker take turns, each a process that stays, with one thread."""
    progress.stage(peer.name)
    if not peer.python.exists():
        return [not_installed(peer.name)]
    size = {"num_tags": options.tags(NUM_TAGS), "dim": peer.dim}
    ours = size | {"head": same_head(peer.head), "positives": peer.positives, "exponent": peer.exponent}
    turns, facts = [], {}
    try:
        for _ in range(_STARTS):
            with ExitStack() as stack:
                contestants = {OURS: stack.enter_context(ProcessContestant("benchmarks.engine_contestant", ours))}
                for form, settings in peer.forms.items():
                    contestants[form] = stack.enter_context(_rival(peer, {**size, **settings}))
                if peer.bare:
                    module = f"benchmarks.{peer.bare.module}"
                    contestants[peer.bare.what] = stack.enter_context(ProcessContestant(module, ours))
                turns.append(options.take_turns(contestants, progress, starts=_STARTS))
                facts = {name: contestant.facts for name, contestant in contestants.items()}
    except ContestantLost as error:
        return [lost(peer.name, error)]
    return _measurements(peer, Turns.joined(turns), facts)


def not_installed(name: str) -> Measurement:
    """For a rival whose environment is not there."""
    return Measurement.missing(name, f"the rivals' libraries are not installed: {HOW_TO_INSTALL}")


def lost(name: str, error: ContestantLost) -> Measurement:
    """For a comparison that lost a contestant: not measured where it was the rival, a defect where it was ours.

    Says what was lost and why, without the child's last words, in one line.
    """
    reason = str(error).partition(" Its last words:")[0]
    return Measurement.missing(name, reason, is_defect=not error.is_rival)


def _rival(peer: Peer, settings: Mapping[str, Any]) -> ProcessContestant:
    return ProcessContestant(
        f"{RIVALS}.{peer.module}",
        settings,
        python=peer.python,
        environment=peer.environment,
    )


def _measurements(peer: Peer, turns: Turns, facts: Mapping[str, Any]) -> list[Measurement]:
    judged, *others = peer.forms
    floor = Floor(peer.bare.what, peer.bare.what) if peer.bare and peer.bare.is_limit else None
    measured = [
        Measurement.ratio(peer.name, turns, over=judged, under=OURS, what=peer.what, facts=facts, floor=floor),
        *(
            Measurement.ratio(f"{peer.name}, {form}", turns, over=form, under=OURS, what=f"the same against {form}")
            for form in others
        ),
        *(Measurement.times(f"{peer.name}_ns, {form}", turns, form, f"{form}: {PAIR}") for form in peer.forms),
        Measurement.times(f"{peer.name}_ns", turns, OURS, f"ours against {judged}: {PAIR}"),
    ]
    if peer.bare:
        bare = peer.bare.what
        measured.append(Measurement.times(f"{peer.name}_ns, {bare}", turns, bare, f"{bare} alone: {PAIR}"))
    return measured
