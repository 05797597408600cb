"""The settings of the wide head, owned by the side that computes it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from workers.errors import ConfigError
from workers.settings import check, check_choice, convert_fields, nearest

OBJECTIVES = ("negative-sampling", "sampled-softmax")
NEGATIVE_SAMPLING, SAMPLED_SOFTMAX = range(len(OBJECTIVES))
"""Numbers for the names, in their order."""
ROW_OPTIMIZERS = ("adagrad", "sgd")
ADAGRAD, SGD = range(len(ROW_OPTIMIZERS))
"""The same for these."""
ROW_FACTORS = {"float32": 4, "bfloat16": 8}
"""Forms of rows; the dim must be a multiple of this: both halves of a row are whole vectors."""
SCORES = ("probability", "lift")
"""What tags can be ranked by, see `hybrid.score_bias`; the first one where nobody says it."""
TRANSPORTS = ("ring", "zmq")
DEFAULT_TRANSPORT = "ring"
"""The faster one, see docs/adr/0006."""
MAX_WORKERS = 256
"""Of one tag matrix: so many have a row of statistics in its shared memory."""
MAX_DRAWS = 1 << 24
"""Negatives that one chunk may ask for, over all its examples: float32 counts exactly so far."""
MAX_ROW_LR = MAX_FACTOR = 1e6
"""Of learning rates, and of other factors: far from where float32 ends."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadConfig:
    """What the wide head computes; equal on every worker and fixed for a run."""

    objective: str = "negative-sampling"
    """`negative-sampling` or `sampled-softmax`."""
    negatives: int = 4096
    """K: negatives drawn per chunk (shared), or per example with `private_negatives`."""
    private_negatives: bool = False
    """Draw negatives for each example alone (word2vec's way) instead of sharing them within a chunk."""
    negative_weight: float = 16.0
    """w: the weight of the negatives' mean in negative sampling; separate from how many are drawn."""
    alpha: float = 1.0
    """Negatives are drawn from q(t) ~ count(t) ** alpha; 0 draws uniformly among tags seen in training."""
    row_optimizer: str = "adagrad"
    """`adagrad` (row-wise: one accumulator per row) or `sgd`."""
    row_lr: float = 0.03
    """Learning rate of the rows and their biases."""
    row_dtype: str = "float32"
    """`float32`, or `bfloat16`: half the memory, written with stochastic rounding; biases and accumulators stay."""
    weight_decay: float = 0.0
    """Decoupled decay: a row that is written is first scaled by 1 - learning rate * this; biases are not."""
    max_norm: float = 0.0
    """Upper bound on each row's L2 norm, enforced when a row is written; 0 means none.

    Values of bfloat16 rows are rounded afterwards, at random: up to their last bit such a row may be longer.
    """
    chunk_size: int = 32
    """Examples per chunk; does not depend on the number of workers."""
    init_scale: float = 0.05
    """Standard deviation of a fresh row times sqrt(dim): rows start uniform, of deviation init_scale / sqrt(dim)."""

    def __post_init__(self) -> None:
        convert_fields(self, "head")  # before they are compared with anything
        check_choice("head.objective", self.objective, OBJECTIVES)
        check_choice("head.row_optimizer", self.row_optimizer, ROW_OPTIMIZERS)
        check_choice("head.row_dtype", self.row_dtype, ROW_FACTORS)
        check(self.negatives >= 1, "head.negatives", self.negatives, "at least 1")
        draws = self.negatives * (self.chunk_size if self.private_negatives else 1)
        check(
            draws <= MAX_DRAWS, "head.negatives", self.negatives, f"at most {MAX_DRAWS:,} draws a chunk, not {draws:,}"
        )
        weight_is_sane = 0 < self.negative_weight <= MAX_FACTOR
        check(weight_is_sane, "head.negative_weight", self.negative_weight, f"positive, at most {MAX_FACTOR:g}")
        check(0 <= self.alpha <= 2, "head.alpha", self.alpha, "between 0 and 2")
        check(0 <= self.row_lr <= MAX_ROW_LR, "head.row_lr", self.row_lr, f"between 0 and {MAX_ROW_LR:g}")
        decay_is_sane = self.weight_decay >= 0 and self.weight_decay * self.row_lr < 1
        check(decay_is_sane, "head.weight_decay", self.weight_decay, "at least 0, and below 1 / head.row_lr")
        check(self.max_norm >= 0, "head.max_norm", self.max_norm, "at least 0 (0 means no bound)")
        check(1 <= self.chunk_size <= 4096, "head.chunk_size", self.chunk_size, "between 1 and 4096")
        check(0 <= self.init_scale <= MAX_FACTOR, "head.init_scale", self.init_scale, f"between 0 and {MAX_FACTOR:g}")


def changed(config: HeadConfig, settings: Mapping[str, Any], arguments: Iterable[str] = ()) -> HeadConfig:
    """The configuration with some fields replaced; `arguments` are further names that its caller knows.

    Raises:
        ConfigError: an unknown name (lists the known ones, suggests the nearest), or a value of another type or that
            breaks its rule.

    Example:
        >>> changed(HeadConfig(), {"negatives": 64}).negatives
        64
    """
    check(isinstance(config, HeadConfig), "config", config, "a HeadConfig, whose fields may also be given by name")
    for name in settings:
        if name not in HeadConfig.__dataclass_fields__:
            known = [*arguments, *HeadConfig.__dataclass_fields__]
            raise ConfigError(
                f"WideHead has no setting {name!r}{nearest(name, known) or '.'} Known: {', '.join(known)}."
            )
    return replace(config, **{name: _plain(value) for name, value in settings.items()})


def _plain(value: Any) -> Any:
    """A single number of NumPy's or torch's as Python's; anything else as it is."""
    return value.item() if getattr(value, "shape", None) == () else value
