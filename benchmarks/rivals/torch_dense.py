"""torch with the whole layer: binary cross-entropy on all tags, at once or in chunks that never keep all logits."""

# Shapes: B examples, D dim, N tags, n tags of one chunk, P positives of an example.

import itertools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.contestant import Prepared
from benchmarks.id_streams import POSITIVES, make_stream
from benchmarks.rivals.forms import ALL_LOGITS, STEPPED_CHUNKS
from benchmarks.rivals.same_start import LEARNING_RATE
from benchmarks.rivals.start_tensors import fill_rows, random_features
from benchmarks.rivals.tuned_memory import LARGEST_KEPT_BYTES, tune_memory
from benchmarks.row_adagrad import RowAdagrad

CHUNK_TAGS = 4096
_BATCHES = 8


def prepare(settings: dict[str, Any]) -> Prepared:
    """One step takes `batch` examples.

    Args:
        settings: `num_tags`, `dim`, `batch`, `threads`; `form`: `ALL_LOGITS`, `CHUNKS` or `STEPPED_CHUNKS` of `forms`;
            `optimizer`: `sgd` or `adagrad`, of the first two; `units` that a step counts for.
    """
    if settings["form"] == ALL_LOGITS:
        tune_memory(LARGEST_KEPT_BYTES)  # logits, targets and gradients have a gigabyte each at a million tags
    else:
        tune_memory()
    torch.set_num_threads(settings["threads"])
    features_BD = random_features(settings["batch"], settings["dim"])
    learn = _learner(settings)
    stream = make_stream(
        settings["num_tags"], num_batches=_BATCHES, batch=settings["batch"], positives=POSITIVES, negatives=0
    )
    batches = itertools.cycle([torch.from_numpy(ids_BP).long() for ids_BP in stream.batches])

    def step() -> float:
        learn(features_BD, next(batches))
        return float(settings["units"])

    return Prepared(step, {"torch": torch.__version__, "threads": torch.get_num_threads()})


def _learner(settings: dict[str, Any]) -> Callable[[Tensor, Tensor], Tensor]:
    num_tags, dim, form = settings["num_tags"], settings["dim"], settings["form"]
    if form == STEPPED_CHUNKS:
        return SteppedChunks(num_tags, dim)
    return Autograd(num_tags, dim, num_tags if form == ALL_LOGITS else CHUNK_TAGS, settings["optimizer"])


class Autograd:
    """As users write it: a loss for each chunk of tags, each going backward at once; then one step of the optimizer.

    With a chunk of all tags this is the plain dense layer. Chunks are parameters of their own: the gradient of a slice
    of one would be as large as all of it.
    """

    def __init__(self, num_tags: int, dim: int, chunk_tags: int, optimizer: str) -> None:
        sizes = [min(chunk_tags, num_tags - start) for start in range(0, num_tags, chunk_tags)]
        self.rows = nn.ParameterList([fill_rows(torch.empty(size, dim)) for size in sizes])
        self.biases = nn.ParameterList([torch.zeros(size) for size in sizes])
        parameters = [*self.rows, *self.biases]
        self.optimizer: torch.optim.Optimizer
        if optimizer == "sgd":
            self.optimizer = torch.optim.SGD(parameters, lr=LEARNING_RATE, fused=True)
        else:
            self.optimizer = torch.optim.Adagrad(parameters, lr=LEARNING_RATE, fused=True)

    def __call__(self, features_BD: Tensor, pos_BP: Tensor) -> Tensor:
        features, start = features_BD.detach().requires_grad_(), 0
        self.optimizer.zero_grad(set_to_none=True)
        for rows_nD, bias_n in zip(self.rows, self.biases, strict=True):
            logits_Bn = F.linear(features, rows_nD, bias_n)
            targets_Bn = _targets(pos_BP, start, len(rows_nD))
            F.binary_cross_entropy_with_logits(logits_Bn, targets_Bn, reduction="sum").backward()
            start += len(rows_nD)
        self.optimizer.step()
        assert features.grad is not None, "the loss depends on the features"
        return features.grad


class SteppedChunks:
    """By hand: each chunk's rows are stepped, by row-wise Adagrad, as soon as their gradient is known; no gradient of
    all rows exists, and the state is one number per row. It is ELMO's way (arXiv 2510.11168)."""

    def __init__(self, num_tags: int, dim: int) -> None:
        self.rows_ND, self.bias_N = fill_rows(torch.empty(num_tags, dim)), torch.zeros(num_tags)
        self.optimizer = RowAdagrad(self.rows_ND, self.bias_N)

    @torch.inference_mode()
    def __call__(self, features_BD: Tensor, pos_BP: Tensor) -> Tensor:
        feature_grad_BD = torch.zeros_like(features_BD)
        for start in range(0, len(self.rows_ND), CHUNK_TAGS):
            tags = slice(start, start + CHUNK_TAGS)
            rows_nD, bias_n = self.rows_ND[tags], self.bias_N[tags]
            grads_Bn = torch.addmm(bias_n, features_BD, rows_nD.T).sigmoid_()
            grads_Bn -= _targets(pos_BP, start, len(rows_nD))
            feature_grad_BD.addmm_(grads_Bn, rows_nD)
            self.optimizer.step_range(tags, grads_Bn.T @ features_BD, grads_Bn.sum(0), LEARNING_RATE)
        return feature_grad_BD


def _targets(pos_BP: Tensor, start: int, num_tags: int) -> Tensor:
    """1 where a tag of the chunk is a positive, float32 [B, n]."""
    targets_Bn = torch.zeros(len(pos_BP), num_tags)
    b, p = ((pos_BP >= start) & (pos_BP < start + num_tags)).nonzero(as_tuple=True)
    targets_Bn[b, pos_BP[b, p] - start] = 1
    return targets_Bn
