"""torch's Hogwild: processes of `torch.multiprocessing` that train one `nn.Embedding` in shared memory."""

from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.multiprocessing as mp
from torch import Tensor

from benchmarks.contestant import Prepared
from benchmarks.rivals.start_tensors import random_rows
from benchmarks.rivals.torch_sparse import Autograd, make_step
from benchmarks.rivals.tuned_memory import tune_memory

_BATCHES_PER_STEP = 4
_ANSWER_LIMIT_S = 60.0


def prepare(settings: dict[str, Any]) -> Prepared:
    """A unit is a row-update of any of the processes; each runs torch on one thread and has ids of its own.

    Args:
        settings: `num_tags`, `dim`, `processes`.
    """
    tune_memory()
    torch.set_num_threads(1)
    rows_ND = random_rows(settings["num_tags"], settings["dim"]).share_memory_()
    context, lines = mp.get_context("spawn"), []
    for seed in range(settings["processes"]):
        ours, theirs = context.Pipe()
        context.Process(target=_train, args=(rows_ND, seed, theirs), daemon=True).start()
        theirs.close()
        lines.append(ours)

    def step() -> float:
        for line in lines:
            line.send(_BATCHES_PER_STEP)
        return sum(_answer(line) for line in lines)

    step()
    return Prepared(step, {"torch": torch.__version__, "processes": settings["processes"]})


def _answer(line: Connection) -> float:
    if not line.poll(_ANSWER_LIMIT_S):
        raise TimeoutError(f"a process of Hogwild gave no answer within {_ANSWER_LIMIT_S:.0f} s")
    return float(line.recv())


def _train(rows_ND: Tensor, seed: int, line: Connection) -> None:
    """One process: so many batches whenever asked, until the other end of the line is closed."""
    tune_memory()
    torch.set_num_threads(1)
    step = make_step(Autograd(rows_ND), len(rows_ND), rows_ND.shape[1], seed=seed)
    while True:
        try:
            batches = line.recv()
        except EOFError:
            return
        line.send(sum(step() for _ in range(batches)))
