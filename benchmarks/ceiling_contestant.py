"""The bare rewriting of the rows that a worker would update, as a persistent contestant."""

from typing import Any

import numpy as np

from benchmarks.ceiling import Ceiling
from benchmarks.contestant import Prepared
from benchmarks.engine_contestant import matrix_of
from benchmarks.id_streams import BATCH, POSITIVES, make_stream
from workers.config import HeadConfig
from workers.counters import NEGATIVES, stream_key
from workers.sampler import draw_ids
from workers.settings import from_plain


def prepare(settings: dict[str, Any]) -> Prepared:
    """Rows in the order of `engine_contestant` with the same settings: its positives, negatives drawn by its law.

    Args:
        settings: of `engine_contestant`, with private negatives and no hot rows.
    """
    config, index = from_plain(HeadConfig, settings["head"], "head"), settings.get("index", 0)
    matrix = matrix_of(settings, config)
    P, batches = settings.get("positives", POSITIVES), []
    for step, ids_BT in enumerate(make_stream(matrix.num_tags, positives=P, seed=index).batches):
        neg_ids = np.empty(BATCH * config.negatives, np.int32)
        key = stream_key(index, step, 0, NEGATIVES)
        draw_ids(matrix.sampler_groups_G4, matrix.sampler_members, key, neg_ids)
        batches.append(np.concatenate([ids_BT[:, :P], neg_ids.reshape(BATCH, -1)], axis=1))
    ceiling = Ceiling(matrix.rows_NS, batches)
    ceiling.step()
    return Prepared(ceiling.step, {"ceiling": ceiling.program, "memory": matrix.huge_pages})
