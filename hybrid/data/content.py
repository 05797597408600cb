"""What a data set holds as training sees it, told by one short text."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np


def content_of(about: Any, arrays: Mapping[str, np.ndarray], pictures: Iterable[bytes | memoryview]) -> str:
    """A digest of all of it: equal where it is equal, wherever files lie and whenever they were written.

    Args:
        about: what else tells data apart, as JSON holds it.
        arrays: by name; of any shape and dtype.
        pictures: what tells them apart, in the order of the items.
    """
    digest = hashlib.blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=16)
    for name, array in sorted(arrays.items()):
        digest.update(f"\0{name} {array.dtype.str} {array.shape}\0".encode())
        digest.update(np.ascontiguousarray(array).data)
    for picture in pictures:
        digest.update(b"\0%d\0" % memoryview(picture).nbytes)
        digest.update(picture)
    return digest.hexdigest()
