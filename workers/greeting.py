"""Whether a worker that says HELLO works on the trunk's own memory."""

from collections.abc import Mapping
from typing import Any

from workers.errors import MatrixMismatch
from workers.matrix import TagMatrix
from workers.ring import Ring


def mismatch(hello: Mapping[str, Any], matrix: TagMatrix, ring: Ring | None) -> MatrixMismatch | None:
    """Why a worker that maps other memory than the trunk is refused; one without a ring is not."""
    for name, ours in (("matrix", matrix.fingerprint), ("ring", ring and ring.identity)):
        if hello[name] != ours and not (name == "ring" and hello[name] is None):
            return MatrixMismatch(f"{name}: {hello[name]!r}, the trunk works with {ours!r}.")
    return None
