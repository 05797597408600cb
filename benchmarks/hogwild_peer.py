"""Two workers on one matrix against two processes of torch's Hogwild."""

import os
from contextlib import ExitStack, closing

from benchmarks.contestant_process import ContestantLost, ProcessContestant
from benchmarks.engine_work import DIM, make_matrix
from benchmarks.gates import PAIR
from benchmarks.measurement import Measurement
from benchmarks.peer import NUM_TAGS, lost, same_head
from benchmarks.progress import Progress
from benchmarks.rivals.forms import AUTOGRAD, BY_HAND
from benchmarks.suite_options import SuiteOptions
from benchmarks.turns import Together
from workers.config import HeadConfig

NAME, PROCESSES = "torch_hogwild", 2
FORMS = {"torch Hogwild with autograd": AUTOGRAD, "torch Hogwild by hand": BY_HAND}
"""The first is judged."""
_OURS = "workers"


def measure(head: HeadConfig, options: SuiteOptions, progress: Progress) -> list[Measurement]:
    """Both processes of a side at once, the sides in turns: ours, and each form of theirs."""
    progress.stage(NAME)
    if len(os.sched_getaffinity(0)) < PROCESSES:
        return [Measurement.missing(NAME, "this process may use one core only")]
    num_tags = options.tags(NUM_TAGS)
    try:
        with ExitStack() as stack:
            matrix = stack.enter_context(closing(make_matrix(num_tags, head)))
            settings = {"fd": matrix.fd, "head": same_head(head)}
            workers = [
                stack.enter_context(
                    ProcessContestant("benchmarks.engine_contestant", settings | {"index": index}, fds=[matrix.fd])
                )
                for index in range(PROCESSES)
            ]
            theirs = {"num_tags": num_tags, "dim": DIM, "processes": PROCESSES}
            rivals = {
                name: stack.enter_context(
                    ProcessContestant(
                        "benchmarks.rivals.torch_hogwild", theirs | {"form": form}, busy_threads=PROCESSES
                    )
                )
                for name, form in FORMS.items()
            }
            turns = options.take_turns({_OURS: Together(workers), **rivals}, progress)
            facts = {"memory": matrix.huge_pages, **{name: rival.facts for name, rival in rivals.items()}}
    except ContestantLost as error:
        return [lost(NAME, error)]
    judged, *others = FORMS
    return [
        Measurement.ratio(NAME, turns, over=judged, under=_OURS, facts=facts),
        *(
            Measurement.ratio(f"{NAME}, {form}", turns, over=form, under=_OURS, what=f"the same against {form}")
            for form in others
        ),
        *(
            Measurement.times(f"{NAME}_ns, {form}", turns, form, f"{form}, {PROCESSES} processes: {PAIR}")
            for form in FORMS
        ),
        Measurement.times(f"{NAME}_ours_ns", turns, _OURS, f"{PROCESSES} workers together: {PAIR}"),
    ]
