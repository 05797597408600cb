"""A worker's step on a made-up stream, without a wire: what the wide engine does for one chunk after the other."""

# Shapes: B examples, D dim, P positives of an example, T ids of an example.

import numpy as np

from benchmarks.id_streams import BATCH, NEGATIVE_EXPONENT, NEGATIVES, POSITIVES, IdStream, make_stream, zipf_counts
from workers.chunk import Chunk
from workers.config import HeadConfig
from workers.engine import WideEngine
from workers.matrix import TagMatrix

DIM = 256
PRIVATE = HeadConfig(private_negatives=True, negatives=NEGATIVES, chunk_size=BATCH)
"""word2vec's way, of which most gates speak."""


class EngineWork:
    """Applies chunks in turn; a step is one chunk.

    Args:
        matrix: from `make_matrix`, or attached to one.
        config: of the head.
        stream: its first columns are the positives; negatives are drawn by the engine, as in a run.
        worker_index: see `WideEngine`; also makes the features and draws of several workers differ.
        positives: how many columns.
        updates: what a step counts as; None: its pairs of example and tag.
    """

    def __init__(
        self,
        matrix: TagMatrix,
        config: HeadConfig,
        stream: IdStream,
        worker_index: int = 0,
        positives: int = POSITIVES,
        updates: float | None = None,
    ) -> None:
        self._engine = WideEngine(matrix, config, worker_index)
        self.chunks = make_chunks(stream, config, matrix.dim, seed=worker_index, positives=positives)
        pairs = float(stream.batches[0].shape[0] * (positives + config.negatives))
        self.units_per_step = pairs if updates is None else updates
        self._next = 0

    def step(self) -> float:
        """Apply the next chunk; returns what it counts as."""
        self._engine.apply(self.chunks[self._next])
        self._next = (self._next + 1) % len(self.chunks)
        return self.units_per_step


def make_chunks(stream: IdStream, config: HeadConfig, dim: int, seed: int, positives: int = POSITIVES) -> list[Chunk]:
    """A chunk for each batch of the stream, with its positives as the true tags and features like layer norm's."""
    rng = np.random.default_rng(seed)
    chunks = []
    for step, ids_BT in enumerate(stream.batches):
        pos_BP = ids_BT[:, :positives]
        true_rows = [np.unique(pos_P) for pos_P in pos_BP]
        chunks.append(
            Chunk(
                step=step,
                chunk=0,
                seed=seed,
                features_BD=rng.standard_normal((len(pos_BP), dim), dtype=np.float32),
                pos_ids=np.ascontiguousarray(pos_BP).ravel(),
                pos_offsets=np.arange(0, pos_BP.size + 1, positives, dtype=np.int32),
                pos_weights=None,
                items_B=None,
                true_ids=np.concatenate(true_rows),
                true_offsets=np.cumsum([0, *map(len, true_rows)]).astype(np.int32),
                num_negatives=config.negatives,
                row_lr=config.row_lr,
                update=True,
            )
        )
    return chunks


def make_matrix(
    num_tags: int,
    config: HeadConfig,
    *,
    dim: int = DIM,
    hot_rows: int | None = None,
    exponent: float = NEGATIVE_EXPONENT,
) -> TagMatrix:
    """A matrix whose negatives follow the stream's law: Zipf(0.75) or another, or uniform on `hot_rows` rows.

    Raises:
        MemoryError: the machine cannot hold it.
    """
    counts_N = zipf_counts(num_tags, exponent)
    if hot_rows is not None:
        counts_N = (np.arange(num_tags) < hot_rows).astype(np.int64)
    return TagMatrix.create(num_tags, dim, config=config, counts=counts_N)


def work_on(
    matrix: TagMatrix,
    config: HeadConfig = PRIVATE,
    *,
    index: int = 0,
    hot_rows: int | None = None,
    positives: int = POSITIVES,
) -> EngineWork:
    """Work on the stream that belongs to a matrix of `make_matrix`, once done so that everything is compiled."""
    stream = make_stream(matrix.num_tags, batch=config.chunk_size, positives=positives, hot_rows=hot_rows, seed=index)
    work = EngineWork(matrix, config, stream, index, positives)
    work.step()
    return work
