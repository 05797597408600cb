"""Two workers on one matrix against two processes of torch's Hogwild."""

import os
from contextlib import ExitStack, closing

from benchmarks.contestant_process import ContestantLost, ProcessContestant
from benchmarks.engine_work import DIM, make_matrix
from benchmarks.measurement import Measurement
from benchmarks.peer import NUM_TAGS, first_words, same_head
from benchmarks.progress import Progress
from benchmarks.suite_options import SuiteOptions
from benchmarks.turns import Together, take_turns
from workers.config import HeadConfig

NAME, PROCESSES = "torch_hogwild", 2


def measure(head: HeadConfig, options: SuiteOptions, progress: Progress) -> list[Measurement]:
    """Both of a side at once, the sides in turns."""
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
            hogwild = stack.enter_context(
                ProcessContestant("benchmarks.rivals.torch_hogwild", theirs, is_always_busy=False)
            )
            turns = take_turns(
                {"workers": Together(workers), "hogwild": hogwild},
                rounds=options.rounds,
                round_s=options.round_s,
                progress=progress,
                reduction=options.reduction,
            )
            facts = {"memory": matrix.huge_pages, **hogwild.facts}
    except ContestantLost as error:
        return [Measurement.missing(NAME, first_words(error))]
    return [
        Measurement.ratio(NAME, turns, over="hogwild", under="workers", facts=facts),
        Measurement.times(f"{NAME}_ns", turns, "hogwild", "torch Hogwild, 2 processes together: a row-update"),
        Measurement.times(f"{NAME}_ours_ns", turns, "workers", "2 workers together: a row-update"),
    ]
