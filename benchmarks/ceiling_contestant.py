"""The bare rewriting of the rows that a worker would update, as a persistent contestant."""

from typing import Any

import numpy as np

from benchmarks.ceiling import Ceiling
from benchmarks.contestant import Prepared
from benchmarks.engine_work import make_matrix
from benchmarks.id_streams import BATCH, make_stream
from workers.config import HeadConfig
from workers.counters import NEGATIVES, stream_key
from workers.sampler import draw_ids
from workers.settings import from_plain


def prepare(settings: dict[str, Any]) -> Prepared:
    """Rows in the order of `engine_contestant` with the same settings: its positives, negatives drawn by its law.

    Args:
        settings: `num_tags`, `dim`, `head` with private negatives, `positives`, `exponent`.
    """
    config = from_plain(HeadConfig, settings["head"], "head")
    matrix = make_matrix(settings["num_tags"], config, dim=settings["dim"], exponent=settings["exponent"])
    P, batches = settings["positives"], []
    for step, ids_BT in enumerate(make_stream(settings["num_tags"], positives=P).batches):
        neg_ids = np.empty(BATCH * config.negatives, np.int32)
        key = stream_key(0, step, 0, NEGATIVES)
        draw_ids(matrix.sampler_groups_G4, matrix.sampler_members, key, neg_ids)
        batches.append(np.concatenate([ids_BT[:, :P], neg_ids.reshape(BATCH, -1)], axis=1))
    ceiling = Ceiling(matrix.rows_NS, batches)
    ceiling.step()
    return Prepared(ceiling.step, {"ceiling": ceiling.program, "memory": matrix.huge_pages})
