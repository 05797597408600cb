"""How far to trust what the features say, chosen on items of subjects that training never saw.

A score is evidence, row . features, plus the tag's bias, which holds the prior. Training makes the evidence certain of
the subjects it saw; on others it is too certain, and rare tags of a look-alike push common true ones aside. Dividing
the evidence by a temperature T moves predictions towards the prior, and one number measured on the validation items
says how far. The order of pictures for one tag does not depend on T.

Source: temperature scaling (Guo et al. 2017, arXiv 1706.04599), with two deviations: the bias is not divided, since the
prior is not in doubt; and T maximises P@5, which is what rankings are judged by, instead of the likelihood.
"""

# Shapes: I items, D dim, N tags.

import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hybrid.ranking import Ranker
from hybrid.truths import Truths
from workers.disk import write_whole
from workers.errors import RunError

TEMPERATURES = (1.0, 1.15, 1.3, 1.5, 1.75, 2.0, 2.5)
NEUTRAL = TEMPERATURES[0]
MAX_ITEMS = 512
"""Items that are enough to choose by; spread evenly over those given."""
_RANKS = 5


def choose_temperature(ranker: Ranker, features_ID: NDArray[np.float32], truths: Truths) -> float:
    """The temperature of `TEMPERATURES` with the best P@5, the lowest of equals; neutral without items.

    Args:
        ranker: of the tag matrix.
        features_ID: of validation items.
        truths: of the same items.
    """
    if not len(truths):
        return NEUTRAL
    chosen_I = np.linspace(0, len(truths) - 1, min(MAX_ITEMS, len(truths))).astype(np.int64)
    true_tags = [truths.of(item) for item in chosen_I]
    features = torch.from_numpy(np.ascontiguousarray(features_ID[chosen_I], np.float32))
    ranked = ranker.topk_scaled(features, _RANKS, [1 / temperature for temperature in TEMPERATURES])
    precisions = [_precision(ids_Ik.numpy(), true_tags) for ids_Ik, _ in ranked]
    return TEMPERATURES[int(np.argmax(precisions))]


def save_temperature(path: Path, temperature: float, step: int) -> None:
    """Write it as JSON, with the step of the training that it was chosen for."""
    write_whole(path, json.dumps({"temperature": temperature, "step": step}) + "\n")


def load_temperature(path: Path, step: int) -> float:
    """Read it; neutral where none was chosen for this step of the training: it had not come to its end then.

    Raises:
        RunError: the file is damaged.
    """
    try:
        chosen = json.loads(path.read_text())
        temperature, chosen_for = float(chosen["temperature"]), chosen["step"]
    except FileNotFoundError:
        return NEUTRAL
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise RunError(f"{path} does not hold a temperature: {e}. `hybrid evaluate RUN` makes it anew.") from e
    if not temperature > 0:
        raise RunError(f"{path} holds temperature {temperature}, expected a number above 0.")
    return temperature if chosen_for == step else NEUTRAL


def _precision(ids_Ik: NDArray[np.int64], true_tags: list[NDArray[np.int32]]) -> float:
    return float(np.mean([np.isin(ids, true).mean() for ids, true in zip(ids_Ik, true_tags, strict=True)]))
