"""A worker process on an inherited matrix, as a persistent contestant."""

from typing import Any

from benchmarks.contestant import Prepared
from benchmarks.engine_work import work_on
from workers.config import HeadConfig
from workers.matrix import TagMatrix
from workers.settings import from_plain


def prepare(settings: dict[str, Any]) -> Prepared:
    """Attach to the matrix behind descriptor `fd`; `head`, `index` and `hot_rows` are those of `work_on`."""
    matrix = TagMatrix.attach(settings["fd"])
    config = from_plain(HeadConfig, settings["head"], "head")
    work = work_on(matrix, config, index=settings["index"], hot_rows=settings["hot_rows"])
    return Prepared(work.step)
