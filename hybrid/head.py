"""The wide head as a PyTorch module: an output layer whose rows live in shared memory and learn in worker processes."""

# Shapes: B examples, D dim, N tags.

import contextlib
import inspect
import os
import threading
import weakref
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hybrid.chunk_numbers import ChunkNumbers
from hybrid.chunking import read_batch
from hybrid.head_folder import DEFAULT_POSITIVES, Draws, matrix_folder, read_draws, restored_matrix, save_head
from hybrid.head_queries import HeadQueries
from hybrid.head_tickets import HeadTickets
from hybrid.loss_of_workers import REDUCTIONS, loss_of_workers
from hybrid.open_head import check_open, while_open
from hybrid.own_workers import OwnWorkers, close_in_owner
from hybrid.ranking import check_float_tensor
from hybrid.sole_use import SoleUse, in_turn
from hybrid.tag_counts import checked_counts
from hybrid.uncompiled import uncompiled
from workers.config import DEFAULT_TRANSPORT, HeadConfig, changed
from workers.matrix import TagMatrix
from workers.matrix_io import open_rows
from workers.router import Router
from workers.settings import check, check_choice, whole_number


class WideHead(HeadQueries, HeadTickets, nn.Module):
    """An output layer with a loss over very many tags, trained by CPU workers.

    Calling it ships the features to the workers, which draw negatives, update the rows that matter, and return the loss
    and the feature gradient; `loss.backward()` passes that gradient on to the trunk.

    Rows are updated inside the call, and only if the head is in training mode and grad mode is on. Under `eval()` or
    `torch.no_grad()` the call returns the loss and changes nothing. A frozen trunk still trains rows. Rows learn from
    the unscaled loss with their own learning rate: a factor on the loss (GradScaler, gradient accumulation) reaches the
    trunk alone. The rows are not torch parameters: optimizers and `state_dict` do not see them; use `save` and `load`,
    and save before `close`, which ends the block of `with` on an exception, too.

    Every call teaches: under `torch.utils.checkpoint`, which calls again on the way back, the rows would learn twice,
    so checkpoint the trunk alone. `torch.compile` ends its graph at the call. A loss under `eval()` is an estimate:
    each call draws negatives of its own.

    A new head returns as soon as its workers have joined; the first call waits until one has loaded its kernels. It is
    for one process: a fork cannot use it. Wrap it in a module of yours, do not inherit from it.

    **Concurrency**: threads of the process take turns, whole steps of a `Pipeline` too; `close` waits for its turn.
    Threads that save wait for each other alone: steps go on, and rows are saved as they are when they are read.

    Args:
        num_tags: N, rows of the tag matrix.
        dim: D, length of the features.
        workers: number of worker processes; None takes two to eight: beside a GPU one per core but one, of those that
            this process may use, else one for every four cores. With 0 it starts none, and shares no memory for them:
            `topk`, `rows`, `score_bias_N` and `save` work at once, all else after `scale`.
        config: objective, negatives, row optimizer; see `HeadConfig`. Its fields may also be given by name.
        tag_counts: `[N]` occurrences of each tag in the training data. They shape the negatives (count ** alpha), start
            each bias at "no information", and leave tags with count 0 out of rankings. Without them all tags are alike.
        positives: true tags drawn per example and call; an example with fewer uses all of them.
        seed: of initial rows and of all draws; `torch.manual_seed` does not reach them. Give two heads two seeds.
        transport: `ring`, features and gradients pass through shared memory, or `zmq`, through sockets.
        log_dir: a folder for the workers' logs; None keeps only the last words of one that crashes, for a warning.

    Raises:
        ConfigError: a setting breaks its rule.
        DataError: `dim` or `tag_counts` do not fit.
        MemoryError: the machine cannot hold the matrix.
        WorkerLost: the workers cannot be started.

    Example:
        >>> with WideHead(num_tags=1000, dim=8, workers=1, negatives=16) as head:
        ...     features = torch.randn(4, 8, requires_grad=True)
        ...     loss = head(features, [[1, 2], [3], [], [999]])
        ...     loss.backward()
        ...     ids, scores = head.topk(features, k=5)
        >>> features.grad.shape, ids.shape
        (torch.Size([4, 8]), torch.Size([4, 5]))
    """

    def __init__(
        self,
        num_tags: int,
        dim: int,
        workers: int | None = None,
        *,
        config: HeadConfig | None = None,
        tag_counts: npt.ArrayLike | None = None,
        positives: int = DEFAULT_POSITIVES,
        seed: int = 0,
        transport: str = DEFAULT_TRANSPORT,
        log_dir: Path | None = None,
        **settings: Any,
    ) -> None:
        config = changed(config or HeadConfig(), settings, _ARGUMENTS)
        fresh = partial(
            TagMatrix.create,
            whole_number("num_tags", num_tags),
            whole_number("dim", dim),
            config=config,
            counts=checked_counts(tag_counts),
            seed=whole_number("seed", seed),
            in_background=True,
        )
        own = OwnWorkers(fresh, workers, config, transport, log_dir)
        self._start(own, config, positives=positives, seed=seed)

    def _start(self, own: OwnWorkers, config: HeadConfig, *, positives: int, seed: int) -> None:
        with contextlib.ExitStack() as undo:
            undo.callback(own.close)
            self._begin(own.matrix, config, positives=positives, seed=seed)
            self._own, self._router = own, own.start()
            weakref.finalize(self, close_in_owner, undo.pop_all(), os.getpid())  # of a head that nobody closes

    def _begin(self, matrix: TagMatrix, config: HeadConfig, *, positives: int, seed: int) -> None:
        super().__init__()
        self.sole_use, self._saves = SoleUse(matrix.fill_limit_s), threading.Lock()
        positives, seed = whole_number("positives", positives), whole_number("seed", seed)
        check(positives >= 1, "positives", positives, "at least 1")
        check(0 <= seed < 2**63, "seed", seed, "between 0 and 2**63 - 1")
        self.config = config
        self.num_tags, self.dim, self.positives, self.seed = matrix.num_tags, matrix.dim, positives, seed
        self.matrix = matrix
        self.row_lr, self.num_negatives = config.row_lr, config.negatives
        self.step, self.is_closed = 0, False
        self._still = ChunkNumbers(config.chunk_size)

    @classmethod
    def attached(
        cls, matrix: TagMatrix, router: Router, config: HeadConfig, *, positives: int, seed: int
    ) -> "WideHead":
        """A head on a matrix and workers that another process owns, as in `hybrid train`; it closes the router."""
        head = cls.__new__(cls)
        head._begin(matrix, config, positives=positives, seed=seed)
        head._router = router
        return head

    @uncompiled
    @in_turn
    def forward(
        self,
        features_BD: Tensor,
        tags: Any,
        pos_weights: npt.NDArray[np.float32] | None = None,
        example_weights: Any = None,
        reduction: str = "mean",
    ) -> Tensor:
        """The loss, by default the examples' mean, a scalar; its backward pass gives the workers' feature gradient.

        Args:
            features_BD: `[B, D]`, any float type, any device.
            tags: the true tags of each example: a list of id lists, a CSR pair (ids, offsets) as a tuple of two
                arrays, a flat array or tensor with one tag for each example, or a class of `hybrid.tag_batch`.
            pos_weights: `[N]` numbers from 0 to 1e6, weight of each tag's positive terms in the loss; None means 1.
                Give `topk` the same ones.
            example_weights: `[B]` floats from 0 to 1e6, or a mask: a factor of each example's loss, for rows and trunk.
                The mean is that of all B products; from an example of weight 0, whose features must be finite all the
                same, nothing learns. Row-wise Adagrad takes a factor that a tag always has out again. None means 1.
            reduction: `mean`, or `none` for the loss of each example, `[B]`, times its weight. What you make of those
                reaches the trunk, exactly; rows have learned from them as they are, all alike, when the call returns:
                what rows shall heed, too, belongs in `example_weights`.

        Raises:
            DataError: features are no float tensor, a tag id or a weight is out of range, or they are not as many as
                they should be.
            ChunkError: features are not finite, or not `[B, dim]`.
            ConfigError: `reduction` is neither of these; `step` was set to no whole number; there are no workers; this
                process is a fork of the one that made the head, or has become one of several that train together.
            WorkerLost: no worker answered in time.
            HeadClosed: the head was closed.
        """
        self.check_serves()
        check_choice("reduction", reduction, REDUCTIONS)
        check_float_tensor(features_BD)
        update = self.training and torch.is_grad_enabled()
        batch = read_batch(tags, features_BD.shape, self.num_tags, self.dim)  # while the device still computes
        first_chunk = 0 if update else self._still.take(self.step, len(features_BD))
        features = np.ascontiguousarray(features_BD.detach().to(device="cpu", dtype=torch.float32).numpy())
        ticket = self.submit(
            features,
            batch,
            update=update,
            pos_weights=pos_weights,
            example_weights=example_weights,
            first_chunk=first_chunk,
        )
        result = self.collect(ticket)
        self.step += update
        return loss_of_workers(features_BD, result, reduction, teaches=update)

    @while_open
    def save(self, folder: str | Path) -> None:
        """Write everything to a folder (made if missing), in place of an earlier save at once; see `WideHead.load`.

        Raises:
            RunError: it cannot be written; an earlier save is as it was.
            ConfigError: this process is a fork of the one that made the head.
            HeadClosed: the head was closed, maybe meanwhile.
        """
        self.sole_use.check_process()  # or `_saves` may be held by a thread that a fork does not have
        with self._saves:  # not `sole_use`: steps go on meanwhile
            save_head(Path(folder), self.matrix, self.config, Draws.of(self))

    @classmethod
    def load(
        cls,
        folder: str | Path,
        workers: int | None = None,
        *,
        tag_counts: npt.ArrayLike | None = None,
        positives: int | None = None,
        seed: int | None = None,
        transport: str = DEFAULT_TRANSPORT,
        log_dir: Path | None = None,
        **settings: Any,
    ) -> "WideHead":
        """A head with the rows, optimizer state and settings of `save`; its draws go on, too, where they were.

        `row_lr` and `num_negatives` are those of then, `config` is what it was made with, but for what is given here.

        Args:
            folder: of `save`.
            workers: as of `WideHead`, as are `transport` and `log_dir`; 0 to serve queries alone.
            tag_counts: `[N]`, other counts than before, or more: further ones are of new tags, whose rows are fresh.
                Saved tags rank among each other as they did.
            positives: None goes on with the saved number, as `seed` does.
            settings: fields of `HeadConfig` that shall change. Biases are moved so that rankings stay.

        Raises:
            MatrixMismatch: there is no saved head, or it is incomplete or of another format; names the folder or file.
            ConfigError: a setting breaks its rule.
            DataError: `tag_counts` are fewer than the saved rows, or do not fit.
        """
        place = matrix_folder(Path(folder))
        config = changed(open_rows(place).config, settings, _LOAD_ARGUMENTS)
        draws = read_draws(Path(folder), positives=positives, seed=seed)
        head = cls.__new__(cls)
        restored = partial(restored_matrix, place, config, checked_counts(tag_counts), draws.seed)
        own = OwnWorkers(restored, workers, config, transport, log_dir)
        head._start(own, config, positives=draws.positives, seed=draws.seed)
        draws.resume(head, but=settings)
        return head

    def extra_repr(self) -> str:
        """What `repr` says of a head, alone or in a model."""
        facts = f"num_tags={self.num_tags}, dim={self.dim}, negatives={self.num_negatives}"
        workers = "closed" if self.is_closed else f"workers={self._num_workers()}"
        return f"{facts}, objective={self.config.objective!r}, {workers}"

    def __reduce__(self) -> NoReturn:  # what copying and pickling ask for
        raise TypeError("a WideHead is not copied or pickled: copy the trunk alone; save and load copy the rows.")

    def close(self) -> None:
        """Stop the workers and give the shared memory back, rows that were not saved with it; safe to call twice.

        In a fork of this process it lets go of the copy alone. Forks, a DataLoader's workers say, keep the memory as
        long as they live.
        """
        if self.sole_use.is_ours:
            with self.sole_use:
                self.is_closed = True
                if self._router is not None:
                    self._router.close()
                if self._own is not None:
                    self._own.close()
        self.is_closed = True
        self.matrix.close()

    def __enter__(self) -> "WideHead":
        check_open(self)
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


_ARGUMENTS, _LOAD_ARGUMENTS = (
    [name for name in inspect.signature(function).parameters if name != "settings"]
    for function in (WideHead, WideHead.load)
)
