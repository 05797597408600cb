"""Tag matrices on disk: a folder of arrays that NumPy maps into memory.

    rows-00000.npy ...   [n, D] float32 or [n, D/2] uint32, as `workers.rows` stores rows; at most 256 MiB each
    tag_state.npy        float32 [N, 4], see `workers.matrix`
    counts.npy           int64 [N]
    meta.json            written last: format version, sizes, the head's configuration, bytes and SHA-256 of each array

All files are synced; whoever calls renames the folder once it is complete. A matrix may be saved while workers write
to it: each piece is copied first, so that file and checksum agree.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from workers.config import HeadConfig
from workers.disk import sync
from workers.errors import ConfigError, DataError, MatrixMismatch
from workers.matrix import TagMatrix
from workers.memory import ArraySpec
from workers.rows import pack, stored_form, unpack
from workers.settings import from_plain, to_plain
from workers.tags import BIAS, LOG_Q
from workers.unreadable import unreadable

FORMAT_VERSION = 1
SHARD_BYTES = 256 << 20
Tell = Callable[[int, int], None]
"""Takes how much is done, and of how much."""
_META = "meta.json"
_NPY_HEADER_BYTES = 128
MEANING = "objective", "alpha", "negative_weight"
"""Settings on which it depends what a bias and a score say (`objectives.log_probability_correction_N`)."""


def save_matrix(matrix: TagMatrix, folder: str | Path, config: HeadConfig, tell: Tell | None = None) -> None:
    """Write rows, biases, optimizer state and counts into a folder, which is made if it is missing.

    `tell`, if given, is told after each 256 MiB how many bytes of all arrays are on the disk, of how many.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rows_per_shard = _rows_per_piece(matrix.rows_NS)
    arrays = {
        f"rows-{number:05d}.npy": matrix.rows_NS[start : start + rows_per_shard]
        for number, start in enumerate(range(0, matrix.num_tags, rows_per_shard))
    }
    arrays |= {"tag_state.npy": matrix.tag_state_N4, "counts.npy": matrix.counts_N}
    files, done, total = {}, 0, sum(array.nbytes for array in arrays.values())
    for name, array in arrays.items():
        digest = hashlib.sha256()
        for num_bytes in _write_array(folder / name, array, digest):
            done += num_bytes
            if tell is not None:
                tell(done, total)
        files[name] = {"bytes": (folder / name).stat().st_size, "sha256": digest.hexdigest()}
    meta = {
        "format_version": FORMAT_VERSION,
        "num_tags": matrix.num_tags,
        "dim": matrix.dim,
        "rows_per_shard": rows_per_shard,
        "head": to_plain(config),
        "files": files,
    }
    with (folder / _META).open("w") as file:
        json.dump(meta, file, indent=1)
    sync(folder / _META)
    sync(folder)


def load_matrix(
    folder: str | Path,
    config: HeadConfig,
    *,
    item_offsets: np.ndarray | None = None,
    item_tags: np.ndarray | None = None,
    tell: Tell | None = None,
) -> TagMatrix:
    """Shared memory filled with a saved matrix, optimizer state included, ready for workers.

    Args:
        folder: of `save_matrix`.
        config: of the run that goes on; its objective, alpha and negative weight must be the saved ones. Rows saved in
            another form than it says are converted; to bfloat16 by rounding to the nearest.
        item_offsets: true tags of the data set, as in `TagMatrix.create`.
        item_tags: the same.
        tell: told after each file of rows how many bytes of rows are there, of how many; what it raises ends the load.

    Raises:
        MatrixMismatch: names the file that is missing, cut off, changed, or of another objective.
        UnreadableFile: the system does not let one be read.
        DataError: true tags do not fit, or the saved dim does not suit the rows that `config` wants.
        MemoryError: the machine cannot hold the matrix.
    """
    saved = open_rows(folder)
    for name in MEANING:
        before, now = getattr(saved.config, name), getattr(config, name)
        if before != now:
            raise MatrixMismatch(
                f"{saved.folder / _META}: saved with {name} {before!r}, to be loaded with {now!r}, where biases mean "
                f"something else. Set {name} to what it was."
            )
    matrix = TagMatrix.allocate(
        saved.num_tags,
        saved.dim,
        config=config,
        counts=saved.checked("counts.npy"),
        item_offsets=item_offsets,
        item_tags=item_tags,
    )
    try:
        matrix.tag_state_N4[:, :LOG_Q] = saved.checked("tag_state.npy")[:, :LOG_Q]
        saved.copy_rows(matrix, config.row_dtype, tell)
    except BaseException:
        matrix.close()
        raise
    matrix.mark_filled()
    return matrix


def open_rows(folder: str | Path) -> "SavedMatrix":
    """A saved matrix for reading, mapped into memory: nothing is read before it is used.

    Raises:
        MatrixMismatch: names the file that is missing, cut off or not of this format.
        UnreadableFile: the system does not let one be read.
    """
    return SavedMatrix(Path(folder))


class SavedMatrix:
    """A matrix on disk, read-only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        meta = self._read_meta()
        try:
            self.num_tags, self.dim = int(meta["num_tags"]), int(meta["dim"])
            self.config = from_plain(HeadConfig, meta["head"], "head")
            self._rows_per_shard = int(meta["rows_per_shard"])
            if self._rows_per_shard < 1:
                raise ValueError(f"rows_per_shard = {self._rows_per_shard}")
            self._files: dict[str, dict[str, Any]] = dict(meta["files"])
            specs = {
                "tag_state.npy": ArraySpec("<f4", (self.num_tags, 4)),
                "counts.npy": ArraySpec("<i8", (self.num_tags,)),
            }
            for name, start, stop in self.shards():
                specs[name] = ArraySpec(*stored_form(stop - start, self.dim, self.config.row_dtype))
            self._arrays = {name: self._map(name, spec) for name, spec in specs.items()}
            self._checksums = {name: str(self._files[name]["sha256"]) for name in specs}
        except (KeyError, TypeError, ValueError, OverflowError, ConfigError, DataError) as e:
            raise MatrixMismatch(f"{folder / _META} is not the description of a matrix: {e!r}") from e

    def copy_rows(self, matrix: TagMatrix, row_dtype: str, tell: Tell | None = None) -> None:
        """Write all rows to the first ones of a matrix, whose rows are of this form; `tell` as in `load_matrix`.

        Raises:
            MatrixMismatch: names the file that has changed since it was saved.
        """
        for name, start, stop in self.shards():
            rows_nS = self.checked(name)
            is_same = row_dtype == self.config.row_dtype
            matrix.rows_NS[start:stop] = rows_nS if is_same else pack(unpack(rows_nS), row_dtype)
            if tell is not None:
                tell(matrix.rows_NS[:stop].nbytes, matrix.rows_NS.nbytes)

    @property
    def bias_N(self) -> np.ndarray:
        """float32 [N], a view."""
        return self._arrays["tag_state.npy"][:, BIAS]

    @property
    def log_q_N(self) -> np.ndarray:
        """float32 [N], a view; -inf for tags that were never drawn."""
        return self._arrays["tag_state.npy"][:, LOG_Q]

    @property
    def counts_N(self) -> np.ndarray:
        """int64 [N], training counts."""
        return self._arrays["counts.npy"]

    def rows(self, start: int, stop: int) -> np.ndarray:
        """float32 [stop - start, D]: a view where float32 rows lie in one file, else a copy."""
        pieces = [
            unpack(self._arrays[name][max(start - first, 0) : stop - first])
            for name, first, last in self.shards()
            if first < stop and start < last
        ]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces or [np.zeros((0, self.dim), np.float32)])

    def shards(self) -> Iterator[tuple[str, int, int]]:
        """(file, first row, last row + 1) of each file of rows."""
        for number, start in enumerate(range(0, self.num_tags, self._rows_per_shard)):
            yield f"rows-{number:05d}.npy", start, min(start + self._rows_per_shard, self.num_tags)

    def checked(self, name: str) -> np.ndarray:
        """An array after all of it was compared with its checksum.

        Raises:
            MatrixMismatch: it was changed since it was saved.
        """
        array = self._arrays[name]
        if hashlib.sha256(np.ascontiguousarray(array).data).hexdigest() != self._checksums[name]:
            raise MatrixMismatch(f"{self.folder / name} was changed since it was saved: its SHA-256 differs")
        return array

    def _read_meta(self) -> dict[str, Any]:
        path = self.folder / _META
        try:
            meta = json.loads(path.read_text())
        except (OSError, ValueError) as e:
            why = isinstance(e, OSError) and unreadable(path, e)
            raise why or MatrixMismatch(f"{path} cannot be read ({e}), as if saved in part only") from e
        version = meta.get("format_version") if isinstance(meta, dict) else None
        if version != FORMAT_VERSION:
            raise MatrixMismatch(f"{path} has format version {version!r}; this program reads {FORMAT_VERSION}")
        return dict(meta)

    def _map(self, name: str, spec: ArraySpec) -> np.ndarray:
        path = self.folder / name
        try:
            num_bytes = path.stat().st_size
            if num_bytes != self._files[name]["bytes"]:
                expected_bytes = self._files[name]["bytes"]
                raise MatrixMismatch(f"{path} has {num_bytes} bytes, expected {expected_bytes}: it is cut off")
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as e:
            why = isinstance(e, OSError) and unreadable(path, e)
            raise why or MatrixMismatch(f"{path} cannot be read: {e}") from e
        if array.shape != spec.shape or array.dtype != np.dtype(spec.dtype):
            raise MatrixMismatch(f"{path} holds {array.dtype} {array.shape}, expected {spec.dtype} {spec.shape}")
        return np.asarray(array)


def _rows_per_piece(array: np.ndarray) -> int:
    return (SHARD_BYTES - _NPY_HEADER_BYTES) // array[0].nbytes


def _write_array(path: Path, array: np.ndarray, digest: "hashlib._Hash") -> Iterator[int]:
    """Write a file of NumPy's format; yields the bytes of each piece once it is on the disk and in the digest."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        for start in range(0, len(array), rows := _rows_per_piece(array)):
            piece = array[start : start + rows].copy()  # workers may be writing to it
            digest.update(piece.data)
            file.write(piece.data)
            file.flush()
            sync(path)
            yield piece.nbytes
