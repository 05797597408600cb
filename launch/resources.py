"""What a run owns outside its directory: private endpoints, the tag matrix and the ring in shared memory."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from launch.config import RunConfig
from launch.runs import PREPARED_FILE
from workers.endpoint import make_endpoint, remove_endpoint
from workers.errors import MatrixMismatch, RunError
from workers.matrix import TagMatrix
from workers.matrix_data import ARRAYS
from workers.matrix_io import Tell, load_matrix
from workers.ring import Ring, make_ring
from workers.tag_weights import inverse_frequency_weights, weights_above_zero


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The sockets of a run, all in one private directory."""

    head: str
    """Workers and trunk."""

    @classmethod
    def make(cls) -> "Endpoints":
        """A fresh directory of mode 0700; RunError if there is nowhere to make it."""
        return cls(make_endpoint())

    @property
    def control(self) -> str:
        """`hybrid status`, `scale`, `stop`."""
        return self._beside("control")

    def link(self, verb: str) -> str:
        """Messages between the launcher and the process that runs a verb."""
        return self._beside(f"link-{verb}")

    def remove(self) -> None:
        """Remove the directory; safe to call twice."""
        remove_endpoint(self.head)

    def _beside(self, name: str) -> str:
        return f"{self.head.rpartition('/')[0]}/{name}"


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the prepare step left in `prepared.json`."""

    num_tags: int
    num_items: int
    num_train: int
    view: Path
    """A folder with `workers.matrix_data.ARRAYS`."""

    @classmethod
    def read(cls, directory: Path) -> "Prepared":
        """Read it from a run directory.

        Raises:
            RunError: it is missing, or lacks a field.
        """
        path = directory / PREPARED_FILE
        try:
            values = json.loads(path.read_text())
            numbers = {name: int(values[name]) for name in ("num_tags", "num_items", "num_train")}
            return cls(**numbers, view=Path(values["view"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path} does not say what was prepared: {type(error).__name__} {error}.") from error


def make_matrix(config: RunConfig, prepared: Prepared, checkpoint: Path | None, tell: Tell | None = None) -> TagMatrix:
    """The tag matrix of a run: fresh, or as a checkpoint holds it.

    Args:
        config: of the run.
        prepared: its data.
        checkpoint: to go on from, or None.
        tell: see `load_matrix`.

    Raises:
        HybridError: the prepared arrays or the checkpoint cannot be used; the message names the file.
    """
    arrays = {}
    for name in ARRAYS:
        path = prepared.view / f"{name}.npy"
        try:
            arrays[name] = np.load(path, mmap_mode="r")
        except (OSError, ValueError, EOFError) as error:
            raise RunError(f"{path} cannot be read: {error}. Prepare the data again.") from error
    if checkpoint is None and config.train.tag_loss_weight == "inverse-frequency":
        counts_N = arrays["counts"]
        weight_N = weights_above_zero(inverse_frequency_weights(counts_N, prepared.num_train), counts_N)
        arrays["marginal"] = arrays["marginal"] * weight_N  # biases start where the weighted loss has its rest
    try:
        if checkpoint is None:
            return TagMatrix.create(
                prepared.num_tags,
                config.trunk.dim,
                config=config.head,
                seed=config.train.seed,
                in_background=True,
                **arrays,
            )
        matrix = load_matrix(
            checkpoint / "matrix",
            config.head,
            item_offsets=arrays["item_offsets"],
            item_tags=arrays["item_tags"],
            tell=tell,
        )
    except MemoryError as error:
        raise RunError(f"{prepared.num_tags:,} tags x {config.trunk.dim} do not fit here: {error}.") from error
    except MatrixMismatch as error:
        raise RunError(
            f"{error}. Remove {checkpoint}: then the run goes on from the checkpoint before it, or from the start."
        ) from error
    if (matrix.num_tags, matrix.dim) != (prepared.num_tags, config.trunk.dim):
        matrix.close()
        raise RunError(
            f"{checkpoint} holds {matrix.num_tags} tags x {matrix.dim}, but the data have {prepared.num_tags} tags "
            f"and trunk.dim is {config.trunk.dim}. Was the data set changed? Start a fresh run."
        )
    return matrix


def open_ring(config: RunConfig) -> Ring | None:
    """The ring of a run; None where everything goes over ZeroMQ.

    Raises:
        RunError: the system refuses the memory, or a descriptor for it.
    """
    try:
        return make_ring(config.transport, config.head.chunk_size, config.trunk.dim)
    except (MemoryError, OSError) as error:
        raise RunError(
            f"the ring cannot be made: {error}. Free some memory, or go without it: --transport zmq."
        ) from error
