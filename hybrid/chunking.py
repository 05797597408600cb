"""Cutting examples into the chunks that workers serve."""

# Shapes: B examples, D dim.

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hybrid.loss_weights import check_weights
from hybrid.tag_batch import ItemNumbers, TagBatch, read_tags
from workers.chunk import Chunk
from workers.counters import POSITIVES, stream_key
from workers.errors import ChunkError, DataError
from workers.matrix import TagMatrix
from workers.positives import draw_positives
from workers.settings import whole_number

Drawn = tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], dict[str, Any]]
"""A chunk's positives, their offsets, its true tags and weights by the names that `Chunk` has for them."""


@dataclass(frozen=True, slots=True)
class ChunkRules:
    """What all chunks of a step have in common."""

    matrix: TagMatrix
    """Holds the true tags of numbered items."""
    seed: int
    step: int
    size: int
    """Examples per chunk; the last may have fewer."""
    num_positives: int
    """P: positives drawn per example."""
    num_negatives: int
    row_lr: float
    update: bool
    pos_weights: npt.NDArray[np.float32] | None
    """`[N]` weight of each tag's positive terms, or None for 1."""

    def __post_init__(self) -> None:
        """A number of NumPy's becomes Python's: whoever sets the `step` of a head takes it from an array.

        Raises:
            ConfigError: it is no whole number; how large it may be is checked with the chunks.
        """
        object.__setattr__(self, "step", whole_number("step", self.step))

    def draw(
        self, batch: TagBatch | ItemNumbers, first_chunk: int, weights_B: npt.NDArray[np.float32] | None = None
    ) -> "DrawnChunks":
        """Chunks of consecutive examples, numbered from `first_chunk`; the number seeds what a chunk draws.

        Raises:
            DataError: the weight of a positive is not between 0 and `MAX_FACTOR`.
        """
        starts = range(0, len(batch), self.size)
        parts = (batch.slice(start, min(start + self.size, len(batch))) for start in starts)
        drawn = [self._draw(part, first_chunk + i) for i, part in enumerate(parts)]
        if weights_B is not None:
            for start, (_, _, others) in zip(starts, drawn, strict=True):
                others["example_weights"] = weights_B[start : start + self.size]
        return DrawnChunks(self, first_chunk, len(batch), drawn)

    def chunk(self, number: int, features_BD: npt.NDArray[np.float32], drawn: "Drawn") -> Chunk:
        """One chunk, with what was drawn for it."""
        pos_ids, pos_offsets, others = drawn
        return Chunk(
            step=self.step,
            chunk=number,
            seed=self.seed,
            features_BD=features_BD,
            pos_ids=pos_ids,
            pos_offsets=pos_offsets,
            num_negatives=self.num_negatives,
            row_lr=self.row_lr,
            update=self.update,
            **others,
        )

    def _draw(self, part: TagBatch | ItemNumbers, number: int) -> "Drawn":
        """Positives, with the truth by which workers mask accidental hits: item numbers where they say it all."""
        key = stream_key(self.seed, self.step, number, POSITIVES)
        others: dict[str, Any]
        if isinstance(part, ItemNumbers):
            offsets, tags, items_B = self.matrix.item_offsets, self.matrix.item_tags, part.items_B
            others = {"items_B": items_B, "true_ids": None, "true_offsets": None}
        else:
            offsets, tags, items_B = part.offsets, part.ids, np.arange(len(part))
            others = {"items_B": None, "true_ids": tags, "true_offsets": offsets.astype(np.int32)}
        pos_ids, pos_offsets = draw_positives(offsets, tags, items_B, self.num_positives, key)
        others["pos_weights"] = None if self.pos_weights is None else self.pos_weights[pos_ids]
        if others["pos_weights"] is not None:
            check_weights("pos_weights", others["pos_weights"], "tag", pos_ids)
        return pos_ids, pos_offsets, others


@dataclass(frozen=True, slots=True)
class DrawnChunks:
    """Examples that are cut into chunks, each with its positives, before anybody knows their features."""

    rules: ChunkRules
    first_chunk: int
    num_examples: int
    drawn: list[Drawn]

    def of(self, features_BD: npt.NDArray[np.float32]) -> list[Chunk]:
        """The chunks, with the features of all their examples.

        Raises:
            ChunkError: features are not `[num_examples, dim]`, or not finite (names the example).
        """
        if features_BD.shape != (self.num_examples, self.rules.matrix.dim):
            raise ChunkError(
                f"features_BD: got shape {features_BD.shape}, expected [{self.num_examples}, {self.rules.matrix.dim}], "
                "for which tags were drawn."
            )
        _check_finite(features_BD)
        size, first = self.rules.size, self.first_chunk
        return [
            self.rules.chunk(first + i, features_BD[i * size : (i + 1) * size], one) for i, one in enumerate(self.drawn)
        ]


def read_batch(tags: object, shape: Sequence[int], num_tags: int, dim: int) -> TagBatch | ItemNumbers:
    """The tags of features of a shape; what the features hold need not be known yet.

    Raises:
        ChunkError: the shape is not `[B, dim]`.
        DataError: tags and features are not equally many, or see `TagBatch.of`.
    """
    if len(shape) != 2 or shape[1] != dim:
        raise ChunkError(f"features_BD: got shape {tuple(shape)}, expected [B, {dim}].")
    return read_tags(tags, num_tags, shape[0])


def check_items(batch: TagBatch | ItemNumbers, num_items: int) -> None:
    """Check numbers of items, before anything is drawn for them.

    Raises:
        DataError: one is out of range.
    """
    if isinstance(batch, ItemNumbers) and len(batch):
        low, high = batch.items_B.min(), batch.items_B.max()
        if low < 0 or high >= num_items:
            raise DataError(f"item numbers from {low} to {high}; this matrix knows {num_items} items.")


def _check_finite(features_BD: npt.NDArray[np.float32]) -> None:
    """Before any of one `ship` is sent: in a `Trainer` one micro-batch, before which others may have taught rows."""
    is_finite_B = np.isfinite(features_BD).all(axis=1)
    if not is_finite_B.all():
        bad = int(np.argmin(is_finite_B))
        raise ChunkError(
            f"features_BD: NaN or infinity in example {bad}: what the trunk was given holds one, or it diverged. If it "
            "diverged, start afresh with a lower learning rate: that of your optimizer, or --lr of `hybrid train` "
            "(of a fresh run: a resumed one keeps its own)."
        )
