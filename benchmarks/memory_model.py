"""Bytes that each contender needs for its output layer, and the most tags that fit into a given memory."""

# Shapes: B examples, D dim, N tags, n tags of a dense chunk, S tags of a sample, C chunks of K negatives, P positives.

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.chunked_head import CPU_LOGITS
from benchmarks.partial_head import SAMPLE_RATE
from launch.config import TrainConfig
from workers.config import HeadConfig
from workers.matrix import Sizes, matrix_spec

LEAN_CUDA_LOGITS = 1 << 22
"""Logits of a chunk of 32 thousand rows with a batch of 128: a card's memory then goes to rows and not to temporaries.
Layers that are trained here have larger ones, see `benchmarks.chunked_head`, and take about a GiB more."""
_FLOAT, _LONG = 4, 8
_MOST_TAGS = 1 << 40
CARDS_GIB, DIMS = (8, 24, 80), (128, 256, 512)
"""What `on_cards` predicts for."""
_COUNTS = 2 * _LONG
"""Per tag: counts and marginal, which every contender keeps in host memory."""
_CREATING = 40
"""Per tag: float64 copies while `TagMatrix.create` fills the sampler's table and the biases."""
_SPARSE_COPIES = 8
"""Gathered rows, their gradients, and what `torch.optim.Adagrad` makes of sparse gradients, each once per lookup."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepShape:
    """What temporaries depend on, besides the number of tags."""

    dim: int
    batch_size: int = TrainConfig().batch_size
    positives: int = TrainConfig().positives
    tags_per_example: int = 700
    """True tags of an example; for the sample that holds them all."""
    negatives: int = HeadConfig().negatives
    chunk_size: int = HeadConfig().chunk_size
    product_bytes: int = 4
    """Of a number in large products: 4 for float32, 2 for bfloat16, which is then copied from and to float32."""
    chunk_logits: int = CPU_LOGITS

    @classmethod
    def on_card(cls, dim: int) -> "StepShape":
        """On a GPU: products in bfloat16, in chunks that leave its memory to the rows."""
        return cls(dim=dim, product_bytes=2, chunk_logits=LEAN_CUDA_LOGITS)

    @property
    def copied_bytes(self) -> int:
        """Of a number's copy in the precision of products; 0 where float32 is used as it is."""
        return self.product_bytes if self.product_bytes != _FLOAT else 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """Bytes by purpose; the trunk, its activations and the data are not counted."""

    rows: float = 0
    state: float = 0
    """Biases, accumulators and, on the device, tables of the sampler."""
    temporaries: float = 0
    """The largest that exist at one moment of a step."""
    host: float = 0
    """What lies in host memory wherever the trunk computes."""

    @property
    def device(self) -> float:
        """What the trunk's device must hold."""
        return self.rows + self.state + self.temporaries

    @property
    def total(self) -> float:
        """What a machine without a device must hold."""
        return self.device + self.host


def hybrid(num_tags: int, shape: StepShape) -> Need:
    """The matrix that workers share: host memory, whatever device the trunk has, which holds features alone."""
    sizes = Sizes(num_tags, shape.dim, HeadConfig().row_dtype, num_groups=1, num_members=0, num_items=0, num_true=0)
    matrix = sum(spec.num_bytes for spec in matrix_spec(sizes).values())
    return Need(temporaries=2 * shape.batch_size * shape.dim * _FLOAT, host=matrix + num_tags * (_LONG + _CREATING))


def dense(num_tags: int, shape: StepShape) -> Need:
    """Rows; bias and two accumulators each; for one chunk its logits and the gradients of its rows."""
    chunk = min(num_tags, max(1, shape.chunk_logits // shape.batch_size))
    per_logit = _FLOAT + shape.copied_bytes * 2  # the product itself, and the gradient, in the products' precision
    per_element = _FLOAT + shape.copied_bytes * 2
    return Need(
        rows=num_tags * shape.dim * _FLOAT,
        state=3 * num_tags * _FLOAT,
        temporaries=chunk * (shape.batch_size * per_logit + shape.dim * per_element),
        host=num_tags * _COUNTS,
    )


def sampled(num_tags: int, shape: StepShape) -> Need:
    """Rows and an accumulator for each of their elements; a slot per tag and chunk; copies of what a step looks up."""
    num_chunks = -(-shape.batch_size // shape.chunk_size)
    lookups = num_chunks * shape.negatives + shape.batch_size * shape.positives
    return Need(
        rows=num_tags * shape.dim * _FLOAT,
        state=num_tags * _FLOAT * (shape.dim + 2 + num_chunks),
        temporaries=_SPARSE_COPIES * lookups * shape.dim * _FLOAT,
        host=num_tags * (_COUNTS + _LONG),  # log q
    )


def partial(num_tags: int, shape: StepShape) -> Need:
    """Rows as `dense`; a random number for each tag; of the sample what the larger of two moments needs.

    One is log-sum-exp: logits and their exponentials, and the rows. The other is the gradient of the rows: gradients of
    the logits, the rows, and their gradients. What is in the products' precision is there a second time.
    """
    sample = min(num_tags, SAMPLE_RATE * num_tags + shape.batch_size * shape.tags_per_example)
    copied, row = shape.copied_bytes, shape.product_bytes
    in_loss = shape.batch_size * 2 * _FLOAT + shape.dim * row
    in_grads = shape.batch_size * (_FLOAT + copied) + shape.dim * (row + copied + _FLOAT)
    return Need(
        rows=num_tags * shape.dim * _FLOAT,
        state=3 * num_tags * _FLOAT,
        temporaries=sample * max(in_loss, in_grads) + num_tags * _FLOAT,
        host=num_tags * _COUNTS,
    )


NEEDS: dict[str, Callable[[int, StepShape], Need]] = {
    "hybrid": hybrid,
    "dense": dense,
    "softmax": dense,  # the same arrays, gone through twice
    "sampled": sampled,
    "partial": partial,
}


def largest_num_tags(kind: str, shape: StepShape, limit_bytes: float, *, of: Callable[[Need], float]) -> int:
    """The most tags whose need, as `of` counts it, is within the limit; 0 if one tag is too many.

    Example:
        >>> shape = StepShape(dim=128, batch_size=32)
        >>> fits = largest_num_tags("dense", shape, 2**31, of=lambda need: need.total)
        >>> dense(fits, shape).total <= 2**31 < dense(fits + 1, shape).total
        True
    """
    fits, too_many = 0, _MOST_TAGS
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if of(NEEDS[kind](middle, shape)) <= limit_bytes:
            fits = middle
        else:
            too_many = middle
    return fits


def on_cards(kind: str) -> dict[str, int]:
    """The most tags by card and dim; of the hybrid, in so much host memory, since it has nothing to put on a card."""
    found = {}
    for gib, dim in itertools.product(CARDS_GIB, DIMS):
        if kind == "hybrid":
            shape, of = StepShape(dim=dim), lambda need: need.host
        else:
            shape, of = StepShape.on_card(dim), lambda need: need.device
        found[f"{gib} GiB, D = {dim}"] = largest_num_tags(kind, shape, gib * 2**30, of=of)
    return found
