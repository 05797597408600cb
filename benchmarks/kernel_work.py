"""The private kernel alone: chunks are checked, drawn and planned before anything is timed."""

import numpy as np

from benchmarks.engine_work import make_chunks
from benchmarks.id_streams import IdStream
from workers.config import HeadConfig
from workers.counters import NEGATIVES, stream_key
from workers.kernel_private import Planned, plan_chunk, run_planned
from workers.matrix import TagMatrix
from workers.prepared_chunk import Answer, PreparedChunk, prepare_chunk, rules_of
from workers.rounding import rounding_noise
from workers.sampler import draw_ids
from workers.scratch import Scratch
from workers.tags import Tags


class KernelWork:
    """Runs planned chunks in turn; a step is one chunk.

    Args:
        matrix: from `engine_work.make_matrix`.
        config: of the head, with private negatives.
        stream: its first columns are the positives; negatives are drawn as in a run.
    """

    def __init__(self, matrix: TagMatrix, config: HeadConfig, stream: IdStream) -> None:
        tags = Tags(matrix.rows_NS, matrix.tag_state_N4, rounding_noise(matrix.dim))
        chunks = make_chunks(stream, config, matrix.dim, seed=0)
        num_examples, shared = len(chunks[0].features_BD), Scratch()
        answer = Answer(  # one for all, as a worker has it: it stays in cache and TLB
            shared.empty(num_examples, np.float32), shared.empty((num_examples, matrix.dim), np.float32)
        )
        self._planned: list[tuple[PreparedChunk, Planned]] = []
        for chunk in chunks:
            scratch = Scratch()  # each plan stays in memory of its own
            neg_ids = np.empty(config.negatives * num_examples, np.int32)
            key = stream_key(chunk.seed, chunk.step, chunk.chunk, NEGATIVES)
            draw_ids(matrix.sampler_groups_G4, matrix.sampler_members, key, neg_ids)
            rules = rules_of(config, chunk.num_negatives, chunk.row_lr)
            prepared = prepare_chunk(chunk, neg_ids, matrix.item_offsets, matrix.item_tags, rules)
            self._planned.append((prepared, plan_chunk(tags, prepared, scratch, answer)))
        self._units_per_step = float(stream.ids_per_batch)
        self._next = 0

    def step(self) -> float:
        """Run the kernel on the next chunk; returns how many pairs of example and tag it has."""
        run_planned(*self._planned[self._next])
        self._next = (self._next + 1) % len(self._planned)
        return self._units_per_step
