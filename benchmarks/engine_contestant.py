"""A worker process, as a persistent contestant."""

from typing import Any

from benchmarks.contestant import Prepared
from benchmarks.engine_work import DIM, make_matrix, work_on
from benchmarks.id_streams import POSITIVES
from workers.config import HeadConfig
from workers.matrix import TagMatrix
from workers.settings import from_plain


def prepare(settings: dict[str, Any]) -> Prepared:
    """Work as `work_on` makes it of `head`, `index`, `hot_rows` and `positives`.

    On the matrix behind the inherited descriptor `fd`, or on its own of `num_tags`, `dim` and `exponent`.
    """
    config = from_plain(HeadConfig, settings["head"], "head")
    matrix = matrix_of(settings, config)
    work = work_on(
        matrix,
        config,
        index=settings.get("index", 0),
        hot_rows=settings.get("hot_rows"),
        positives=settings.get("positives", POSITIVES),
    )
    return Prepared(work.step, {"memory": matrix.huge_pages})


def matrix_of(settings: dict[str, Any], config: HeadConfig) -> TagMatrix:
    """The matrix that `prepare` works on."""
    if "fd" in settings:
        return TagMatrix.attach(settings["fd"])
    dim = settings.get("dim", DIM)
    return make_matrix(settings["num_tags"], config, dim=dim, exponent=settings["exponent"])
