"""Checkpoints: everything a run needs to go on where it was, in folders that appear whole or not at all."""

# RUN/checkpoints/step-000001234/
#     trunk.safetensors       the trunk's parameters and buffers
#     optimizer.safetensors   the tensors of its optimizer's state, named `INDEX.KEY`
#     random.safetensors      states of torch's random generators, by device
#     matrix/                 rows, biases and row-optimizer state (workers/matrix_io.py)
#     state.json              step, progress, the optimizer's groups; size and SHA-256 of the files above

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from hybrid.optimizer_state import join_optimizer, split_optimizer
from hybrid.whole_folder import whole_folder
from launch.runs import checkpoint_folders, step_of
from workers.config import HeadConfig
from workers.disk import sync
from workers.errors import HybridError, MatrixMismatch, RunError, TrunkDiverged
from workers.matrix import TagMatrix
from workers.matrix_io import open_rows, save_matrix
from workers.refused_write import refused_write
from workers.unreadable import unreadable

logger = logging.getLogger(__name__)

FORMAT = 1
KEPT = 2
"""Newest checkpoints that are kept: one to go on from, one in case it is damaged."""
TRUNK, OPTIMIZER, RANDOM, MATRIX, STATE = (
    "trunk.safetensors",
    "optimizer.safetensors",
    "random.safetensors",
    "matrix",
    "state.json",
)
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_CPU_GENERATOR, _CUDA_GENERATOR = "torch", "torch.cuda"


def save_checkpoint(
    folder: Path,
    *,
    step: int,
    trunk: nn.Module,
    optimizer: torch.optim.Optimizer,
    matrix: TagMatrix,
    head: HeadConfig,
    progress: Mapping[str, Any],
    device: torch.device,
    tell: Callable[[int, int], None] | None = None,
) -> Path:
    """Write `folder/step-STEP`, then remove all but the `KEPT` newest up to it.

    Later ones are none that the run went on from: they are damaged, and for their owner to look at.

    Everything is written under a temporary name and synced; one rename makes it visible. A kill at any moment leaves
    the checkpoints that were there before.

    Args:
        folder: the run's `checkpoints` folder.
        step: the trunk's optimizer step; no chunk may be in flight.
        progress: plain values (JSON) that the caller gets back from `Checkpoint.progress`.
        device: of the trunk; the random generator of a card is kept, too: dropout draws from it.
        tell: told how many bytes of the matrix are written, of how many.

    Raises:
        TrunkDiverged: a weight of the trunk is not finite: nobody could go on from there.
        RunError: the files cannot be written (no space, no permission, no memory for a copy of a piece).
    """
    check_finite(trunk, step)
    place = folder / f"step-{step:09d}"
    try:
        with whole_folder(place) as fresh:
            _write(fresh / TRUNK, trunk.state_dict())
            tensors, plain = split_optimizer(optimizer)
            _write(fresh / OPTIMIZER, tensors)
            _write(fresh / RANDOM, _random_states(device))
            save_matrix(matrix, fresh / MATRIX, head, tell)
            seals = {name: _seal(fresh / name) for name in (TRUNK, OPTIMIZER, RANDOM)}
            state = {"format": FORMAT, "step": step, "progress": dict(progress), "optimizer": plain, "files": seals}
            _write_synced(fresh / STATE, json.dumps(state, indent=1).encode())
    except (OSError, SafetensorError, MemoryError) as e:
        why = _refusal_to_write(e, folder, _bytes_of(trunk, optimizer, matrix))
        raise RunError(f"cannot write a checkpoint of step {step} in {folder}: {why}.") from e
    up_to_it = [path for path in checkpoint_folders(folder) if step_of(path) <= step]
    for old in up_to_it[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return place


def check_finite(trunk: nn.Module, step: int) -> None:
    """Raise TrunkDiverged if a parameter is not finite. Buffers may hold infinities, as masks do."""
    for name, parameter in trunk.named_parameters():
        if not bool(parameter.isfinite().all()):
            raise TrunkDiverged(
                f"the trunk's weight {name} is not finite after step {step:,}: the training diverged, and this step is "
                "not saved. What was saved before can be resumed or evaluated; a fresh run may need a smaller --lr."
            )


def open_checkpoint(path: Path) -> "Checkpoint":
    """A checkpoint whose files are all there and unharmed.

    Raises:
        RunError: names what is missing, cut short or changed.
        UnreadableFile: the system does not let a file be read, which may be whole.
    """
    state_file = path / STATE
    try:
        state = json.loads(state_file.read_bytes())
    except (OSError, ValueError) as e:
        raise _refusal(state_file, e) from e
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise RunError(f"{state_file} is not a checkpoint of format {FORMAT}. {_ADVICE}")
    if missing := {"step", "progress", "optimizer", "files"} - state.keys():
        raise RunError(f"{state_file} lacks {', '.join(sorted(missing))}. {_ADVICE}")
    for name in (TRUNK, OPTIMIZER, RANDOM):
        _check_seal(path / name, state["files"].get(name))
    try:
        open_rows(path / MATRIX)
    except MatrixMismatch as e:
        raise RunError(f"{e}. {_ADVICE}") from e
    return Checkpoint(path, state)


def newest_whole_checkpoint(folder: Path) -> "Checkpoint | None":
    """The newest whole checkpoint under a run's `checkpoints` folder; damaged ones are passed over with a warning.

    Raises:
        UnreadableFile: the system does not let a file be read, which may be whole.
    """
    for path in reversed(checkpoint_folders(folder)):
        try:
            return open_checkpoint(path)
        except RunError as e:
            logger.warning("Passing over a damaged checkpoint: %s", e)
    return None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint on disk, checked."""

    path: Path
    state: dict[str, Any]

    @property
    def step(self) -> int:
        return self.state["step"]

    @property
    def progress(self) -> dict[str, Any]:
        """What the caller gave to `save_checkpoint`."""
        return self.state["progress"]

    @property
    def matrix_folder(self) -> Path:
        """For `workers.matrix_io`."""
        return self.path / MATRIX

    def trunk_tensors(self) -> dict[str, Tensor]:
        """All parameters and buffers of the trunk.

        Raises:
            RunError: they cannot be read.
        """
        return _read(self.path / TRUNK)

    def load_trunk(self, trunk: nn.Module, tensors: Mapping[str, Tensor] | None = None) -> None:
        """Set all parameters and buffers of the trunk.

        Args:
            trunk: built as it was.
            tensors: of `trunk_tensors`, if they were read before.

        Raises:
            RunError: the trunk is built differently; names what differs.
        """
        try:
            trunk.load_state_dict(self.trunk_tensors() if tensors is None else tensors)
        except RuntimeError as e:
            raise RunError(
                f"{self.path / TRUNK} does not fit this trunk (was trunk.factory or trunk.dim changed?): {e}"
            ) from e

    def load_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Set the state of an optimizer that was built over the same parameters in the same order.

        Raises:
            RunError: the optimizer is built differently.
        """
        plain = self.state["optimizer"]
        try:
            optimizer.load_state_dict(join_optimizer(_read(self.path / OPTIMIZER), plain, optimizer))
        except (ValueError, KeyError, IndexError) as e:
            raise RunError(f"{self.path / OPTIMIZER} does not fit this optimizer: {e}") from e

    def load_generators(self, device: torch.device) -> None:
        """Set torch's random generators; that of a card keeps its fresh state if the run was on none before.

        Args:
            device: of the trunk.
        """
        states = _read(self.path / RANDOM)
        torch.set_rng_state(states[_CPU_GENERATOR])
        if device.type != "cuda":
            return
        if _CUDA_GENERATOR in states:
            torch.cuda.set_rng_state(states[_CUDA_GENERATOR], device)
        else:
            logger.warning(
                "%s holds no state of a card's random generator: that of %s starts afresh.", self.path, device
            )


_ADVICE = "Remove this checkpoint's folder: then the run goes on from the one before it, or from the start."


def _random_states(device: torch.device) -> dict[str, Tensor]:
    states = {_CPU_GENERATOR: torch.get_rng_state()}
    return states | ({_CUDA_GENERATOR: torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def _write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Contiguous copies: shared and channels-last tensors are not accepted by the format."""
    own = {name: t.detach().to("cpu", copy=True, memory_format=torch.contiguous_format) for name, t in tensors.items()}
    safetensors.torch.save_file(own, path)
    sync(path)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (OSError, SafetensorError) as e:
        raise _refusal(path, e) from e


def _refusal(path: Path, error: Exception) -> HybridError:
    why = unreadable(path, error) if isinstance(error, OSError) else None
    return why or RunError(f"{path} cannot be read: {error}. {_ADVICE}")


def _seal(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _check_seal(path: Path, expected: Mapping[str, Any] | None) -> None:
    if not path.is_file():
        raise RunError(f"{path} is missing. {_ADVICE}")
    if expected is None:
        raise RunError(f"{path} is not named in {STATE}. {_ADVICE}")
    try:
        found = _seal(path)
    except OSError as e:
        raise _refusal(path, e) from e
    if found["bytes"] != expected.get("bytes"):
        raise RunError(f"{path} is damaged: it has {found['bytes']} bytes, expected {expected.get('bytes')}. {_ADVICE}")
    if found != expected:
        raise RunError(f"{path} is damaged: it was changed since it was saved, its SHA-256 differs. {_ADVICE}")


def _bytes_of(trunk: nn.Module, optimizer: torch.optim.Optimizer, matrix: TagMatrix) -> int:
    """Of what a checkpoint holds, but for headers."""
    tensors = [*trunk.state_dict().values(), *split_optimizer(optimizer)[0].values()]
    return sum(array.nbytes for array in (*tensors, matrix.rows_NS, matrix.tag_state_N4, matrix.counts_N))


def _refusal_to_write(error: Exception, folder: Path, wanted_bytes: int) -> str:
    """What the system said, also where the library that writes tensors passes it on as words: `... (os error 28)`."""
    number = _OS_ERROR.search(str(error)) if isinstance(error, SafetensorError) else None
    if number is not None:
        code = int(number[1])
        error = OSError(code, os.strerror(code))
    return refused_write(error, folder, wanted_bytes) if isinstance(error, OSError) else str(error)


def _write_synced(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    sync(path)
