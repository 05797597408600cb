"""The wide side once more: slow float64 loops that look like the equations, to compare kernels with.

Legend: B examples, D dim, K negatives drawn, N tags, P positives of one example.
"""

import math
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from workers.config import HeadConfig
from workers.matrix import TagMatrix
from workers.row_optimizers import MAX_ACCUMULATOR
from workers.tags import BIAS, BIAS_ACC, LOG_Q, ROW_ACC

MASK_64 = (1 << 64) - 1
EPSILON = 1e-10


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


@dataclass
class Parameters:
    """A float64 copy of what a matrix holds."""

    rows_ND: np.ndarray
    bias_N: np.ndarray
    row_acc_N: np.ndarray
    bias_acc_N: np.ndarray
    log_q_N: np.ndarray

    @classmethod
    def of(cls, matrix: TagMatrix) -> "Parameters":
        state = matrix.tag_state_N4.astype(np.float64)
        rows_ND, log_q_N = matrix.rows_ND.astype(np.float64), state[:, LOG_Q].copy()
        return cls(rows_ND, state[:, BIAS].copy(), state[:, ROW_ACC].copy(), state[:, BIAS_ACC].copy(), log_q_N)


@dataclass
class Gradients:
    """Of one example, or summed over several: by features, and by the rows and biases that took part."""

    feature_D: np.ndarray
    rows: dict[int, np.ndarray] = field(default_factory=dict)
    biases: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    loss: float = 0.0
    hits: int = 0

    def add(self, tag: int, grad: float, parameters: Parameters, features_D: np.ndarray) -> None:
        """A score of this tag has dLoss/dscore = grad."""
        self.feature_D = self.feature_D + grad * parameters.rows_ND[tag]
        self.rows[tag] = self.rows.get(tag, 0.0) + grad * features_D
        self.biases[tag] += grad


@dataclass
class Example:
    """What one example brings."""

    features_D: np.ndarray
    pos_ids: list[int]
    pos_weights: list[float]
    neg_ids: list[int]
    true_ids: set[int]
    weight: float = 1.0


def example_gradients(config: HeadConfig, parameters: Parameters, example: Example) -> Gradients:
    """Loss and gradients of one example, as `workers.objectives` defines them, times its weight."""
    out, w = _unweighted(config, parameters, example), example.weight
    rows = {tag: w * grad_D for tag, grad_D in out.rows.items()}
    biases = defaultdict(float, {tag: w * grad for tag, grad in out.biases.items()})
    return Gradients(w * out.feature_D, rows, biases, w * out.loss, out.hits)


def _unweighted(config: HeadConfig, parameters: Parameters, example: Example) -> Gradients:
    f = example.features_D
    P, K = len(example.pos_ids), len(example.neg_ids)
    score = {t: parameters.rows_ND[t] @ f + parameters.bias_N[t] for t in {*example.pos_ids, *example.neg_ids}}
    negatives = [k for k in example.neg_ids if k not in example.true_ids]
    out = Gradients(np.zeros_like(f), hits=K - len(negatives))
    if config.objective == "negative-sampling":
        w = config.negative_weight
        for p, c in zip(example.pos_ids, example.pos_weights, strict=True):
            out.loss += c / P * softplus(-score[p])
            out.add(p, -c / P * sigmoid(-score[p]), parameters, f)
        for k in negatives:
            out.loss += w / K * softplus(score[k])
            out.add(k, w / K * sigmoid(score[k]), parameters, f)
        return out
    corrected = [(k, score[k] - math.log(K) - parameters.log_q_N[k]) for k in negatives]
    for p, c in zip(example.pos_ids, example.pos_weights, strict=True):
        top = max([score[p], *(y for _, y in corrected)])
        z = math.exp(score[p] - top) + sum(math.exp(y - top) for _, y in corrected)
        out.loss += c / P * (top + math.log(z) - score[p])
        out.add(p, c / P * (math.exp(score[p] - top) / z - 1), parameters, f)
        for k, y in corrected:
            out.add(k, c / P * math.exp(y - top) / z, parameters, f)
    return out


def update_rows(config: HeadConfig, lr: float, parameters: Parameters, gradients: Gradients) -> int:
    """Write the rows that have a gradient, each once; returns how many."""
    written = 0
    for tag, grad_D in gradients.rows.items():
        bias_grad = gradients.biases[tag]
        if not grad_D.any() and bias_grad == 0:
            continue
        written += 1
        row_step = bias_step = lr
        if config.row_optimizer == "adagrad":
            parameters.row_acc_N[tag] = min(parameters.row_acc_N[tag] + (grad_D**2).mean(), MAX_ACCUMULATOR)
            parameters.bias_acc_N[tag] = min(parameters.bias_acc_N[tag] + bias_grad**2, MAX_ACCUMULATOR)
            row_step = lr / math.sqrt(parameters.row_acc_N[tag] + EPSILON)
            bias_step = lr / math.sqrt(parameters.bias_acc_N[tag] + EPSILON)
        row_D = (1 - lr * config.weight_decay) * parameters.rows_ND[tag] - row_step * grad_D
        norm = np.linalg.norm(row_D)
        if config.max_norm and norm > config.max_norm:
            row_D = row_D * (config.max_norm / norm)
        parameters.rows_ND[tag] = row_D
        parameters.bias_N[tag] -= bias_step * bias_grad
    return written


@dataclass
class Result:
    loss_B: np.ndarray
    feature_grad_BD: np.ndarray
    rows_written: int
    hits: int


def run_chunk(config: HeadConfig, parameters: Parameters, examples: list[Example], lr: float, update: bool) -> Result:
    """Shared negatives: one merged update after all examples. Private negatives: an update after each."""
    results, merged, written = [], Gradients(np.zeros_like(examples[0].features_D)), 0
    for example in examples:
        one = example_gradients(config, parameters, example)
        results.append(one)
        if config.private_negatives:
            written += update_rows(config, lr, parameters, one) if update else 0
        for tag, grad_D in one.rows.items():
            merged.rows[tag] = merged.rows.get(tag, 0.0) + grad_D
            merged.biases[tag] += one.biases[tag]
    if update and not config.private_negatives:
        written = update_rows(config, lr, parameters, merged)
    return Result(
        np.array([r.loss for r in results]),
        np.array([r.feature_D for r in results]),
        written,
        sum(r.hits for r in results),
    )


def fresh_rows(num_tags: int, dim: int, deviation: float, key: int) -> np.ndarray:
    """Elements in the order of memory, two of each 64 bits: the low half as a signed number, then the high half."""
    values = []
    for counter in range(num_tags * dim // 2):
        bits = splitmix64(key, counter)
        for half in (bits & 0xFFFFFFFF, bits >> 32):
            signed = half - (1 << 32) if half >= 1 << 31 else half
            values.append(signed / 2**31 * math.sqrt(3) * deviation)
    return np.array(values).reshape(num_tags, dim)


def splitmix64(key: int, counter: int) -> int:
    """The output number `counter` of the generator seeded with `key`."""
    z = (key + (counter + 1) * 0x9E3779B97F4A7C15) & MASK_64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK_64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK_64
    return z ^ (z >> 31)


def draw_ids(groups_G4: np.ndarray, members: np.ndarray, key: int, num_draws: int) -> list[int]:
    """Draws of a group by its alias table, then of one of its tags."""
    drawn = []
    for k in range(num_draws):
        bits = splitmix64(key, 2 * k)
        group = (bits * len(groups_G4)) >> 64
        threshold, alias, _, _ = (int(x) for x in groups_G4[group])
        group = group if bits & 0xFFFFFFFF < threshold else alias
        _, _, first, size = (int(x) for x in groups_G4[group])
        place = first + ((splitmix64(key, 2 * k + 1) * size) >> 64)
        drawn.append(int(members[place]) if len(members) else place)
    return drawn


def group_probabilities(groups_G4: np.ndarray, members: np.ndarray, num_tags: int) -> np.ndarray:
    """The distribution of the tags that groups and their alias table draw."""
    G, q_N = len(groups_G4), np.zeros(num_tags)
    q_G = np.zeros(G)
    for g in range(G):
        threshold, alias, _, _ = (int(x) for x in groups_G4[g])
        q_G[g] += threshold / 2**32 / G
        q_G[alias] += (1 - threshold / 2**32) / G
    for g in range(G):
        _, _, first, size = (int(x) for x in groups_G4[g])
        for place in range(first, first + size):
            q_N[members[place] if len(members) else place] += q_G[g] / size
    return q_N


def draw_positives(true_ids: list[list[int]], num_positives: int, key: int) -> list[list[int]]:
    """For each example all its tags, or the first `num_positives` of a shuffle."""
    drawn = []
    for b, tags in enumerate(true_ids):
        cards, example_key = list(tags), splitmix64(key, b)
        if len(cards) > num_positives:
            for p in range(num_positives):
                other = p + ((splitmix64(example_key, p) * (len(cards) - p)) >> 64)
                cards[p], cards[other] = cards[other], cards[p]
        drawn.append(cards[:num_positives])
    return drawn
