"""torch's Hogwild: processes of `torch.multiprocessing` that train the same rows in shared memory."""

from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.multiprocessing as mp
from torch import Tensor

from benchmarks.contestant import Prepared
from benchmarks.rivals.forms import AUTOGRAD, BY_HAND
from benchmarks.rivals.start_tensors import random_rows
from benchmarks.rivals.torch_sparse import make_learner, make_step
from benchmarks.rivals.tuned_memory import tune_memory

BATCHES_PER_STEP = {AUTOGRAD: 12, BY_HAND: 24}
"""Some 100 ms of each form: the processes wait for each other after every step, which is no part of Hogwild. Shorter
steps would leave them less of their cores than a round needs to count."""
_ANSWER_LIMIT_S = 60.0


def prepare(settings: dict[str, Any]) -> Prepared:
    """A unit is a pair of example and tag of any of the processes; each runs torch on one thread and has ids of
    its own.

    Args:
        settings: `num_tags`, `dim`, `processes`; `form`: `AUTOGRAD` or `BY_HAND` of `forms`.
    """
    tune_memory()
    torch.set_num_threads(1)
    rows_ND = random_rows(settings["num_tags"], settings["dim"]).share_memory_()
    context, lines, form = mp.get_context("spawn"), [], settings["form"]
    for seed in range(settings["processes"]):
        ours, theirs = context.Pipe()
        context.Process(target=_train, args=(rows_ND, form, seed, theirs), daemon=True).start()
        theirs.close()
        lines.append(ours)

    def step() -> float:
        for line in lines:
            line.send(BATCHES_PER_STEP[form])
        return sum(_answer(line) for line in lines)

    step()
    return Prepared(step, {"torch": torch.__version__, "processes": settings["processes"]})


def _answer(line: Connection) -> float:
    if not line.poll(_ANSWER_LIMIT_S):
        raise TimeoutError(f"a process of Hogwild gave no answer within {_ANSWER_LIMIT_S:.0f} s")
    return float(line.recv())


def _train(rows_ND: Tensor, form: str, seed: int, line: Connection) -> None:
    """One process: so many batches whenever asked, until the other end of the line is closed."""
    tune_memory()
    torch.set_num_threads(1)
    step = make_step(make_learner(form, rows_ND), len(rows_ND), rows_ND.shape[1], seed=seed)
    while True:
        try:
            batches = line.recv()
        except EOFError:
            return
        line.send(sum(step() for _ in range(batches)))
