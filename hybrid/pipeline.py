"""One training step in micro-batches, so that workers and trunk compute at the same time.

    trunk   | forward A | forward B      | backward A      | backward B | optimizer step
    workers |           | update(A)      | update(B)       |
                        ^ ship A         ^ ship B          ^ both gradients belong to the weights that made the features

No weight changes between a forward and its backward pass: the trunk's step is an ordinary synchronous one, equal to
running the micro-batches one after the other. BatchNorm takes its statistics from each micro-batch, not from the whole
batch.
"""

# Shapes: B examples of a micro-batch, D dim.

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hybrid.cuda_graphs import GraphedPasses
from hybrid.device_spans import DeviceSpans
from hybrid.head import WideHead
from hybrid.micro_batch import MicroBatch, cut_batch
from hybrid.phases import PhaseTimer
from hybrid.ranking import check_float_tensor
from hybrid.trunk_inputs import Inputs, Upstream, tensors_of
from hybrid.trunk_passes import TrunkPasses
from workers.flights import Ticket
from workers.settings import check, whole_number

logger = logging.getLogger(__name__)

_ALMOST_S, _LOOK_S = 0.0003, 0.00002
"""How long features that a device computes are waited for before the next forward pass is queued, and how long between
two looks."""


class Pipeline:
    """Runs forward and backward passes of micro-batches around the workers' updates.

    In a loop of your own, with your own optimizer, `backward` stands for `head(trunk(images), tags)` and
    `loss.backward()`.

    Args:
        trunk: any module that maps its inputs to features `[B, D]`.
        head: the wide head, in training mode.
        precision: dtype of autocast; float32 turns autocast off, None leaves it as the caller has it.
        timer: receives the phases `forward`, `ship`, `wait`, `backward`.
        pos_weights: `[N]` weight of each tag's positive terms, as `WideHead.forward` takes them, or None.
        spans: receives the phases `forward` and `backward` as a CUDA device sees them, or None.
        cuda_graphs: record the trunk's passes and replay them, see `GraphedPasses` for what a trunk must keep to.
        tell: takes remarks for people; they are logged if nobody else wants them.

    Raises:
        ConfigError: the trunk is none, or the head; precision is no dtype; or see `GraphedPasses`.

    Example:
        >>> trunk = nn.Linear(6, 8)
        >>> optimizer = torch.optim.SGD(trunk.parameters(), lr=0.1)
        >>> with WideHead(num_tags=1000, dim=8, workers=1) as head:
        ...     pipeline = Pipeline(trunk, head)
        ...     for _ in range(3):
        ...         optimizer.zero_grad()
        ...         loss = pipeline.backward(torch.randn(4, 6), [[1], [2, 3], [4], [5]])
        ...         optimizer.step()
        >>> loss > 0
        True
    """

    def __init__(
        self,
        trunk: nn.Module,
        head: WideHead,
        *,
        precision: torch.dtype | None = None,
        timer: PhaseTimer | None = None,
        pos_weights: npt.NDArray[np.float32] | None = None,
        spans: DeviceSpans | None = None,
        cuda_graphs: bool = False,
        tell: Callable[[str], None] = logger.warning,
    ) -> None:
        is_trunk = isinstance(trunk, nn.Module) and not isinstance(trunk, WideHead)
        check(is_trunk, "trunk", type(trunk).__name__, "an nn.Module that makes features: Pipeline(trunk, head)")
        rule = "a torch.dtype, or None for that of the caller's autocast"
        check(precision is None or isinstance(precision, torch.dtype), "precision", precision, rule)
        self.trunk, self.head, self.timer, self.spans = trunk, head, timer or PhaseTimer(), spans
        self.pos_weights = pos_weights
        self.passes = GraphedPasses(trunk, precision, tell) if cuda_graphs else TrunkPasses(trunk, precision)
        self.chunk_s: tuple[float, ...] = ()
        """Seconds that workers computed on each chunk of the latest step."""
        self._losses: list[npt.NDArray[np.float32]] = []

    @property
    def loss_B(self) -> Tensor:
        """Loss of each example of the latest step that was done, float32 on the CPU, as the batch has them.

        Each is times its weight, if examples have weights; the mean of all is what `backward` and `accumulate` return.
        """
        return torch.from_numpy(np.concatenate(self._losses)) if self._losses else torch.empty(0)

    def backward(
        self,
        inputs: Inputs,
        tags: Any,
        microbatches: int = 2,
        loss_scale: float = 1.0,
        scaler: torch.amp.GradScaler | None = None,
        example_weights: Any = None,
    ) -> float:
        """Cut a batch, and `accumulate`: afterwards the trunk's weights have gradients, and rows have learned.

        Args:
            inputs: `[B, ...]`, on the trunk's device; for several arguments a tuple of them, or a dict by their names.
            tags: true tags of each, as `WideHead` takes them.
            microbatches: parts to cut it into, or fewer so that none has one example.
            loss_scale: see `accumulate`; 1 / 4, say, where four calls make one step.
            scaler: its factor multiplies the trunk's gradients, too: this call stands for
                `scaler.scale(loss).backward()`, and `scaler.step(optimizer)` and `scaler.update()` come after it.
            example_weights: as of `WideHead.forward`.

        Returns:
            The mean loss.

        Raises:
            ConfigError: `microbatches` is not above 0, or see `accumulate`.
            DataError: inputs are no tensors, or none, or not equally many; or as `accumulate`.
            ChunkError, HeadClosed, WorkerLost: as `accumulate`.
        """
        check(whole_number("microbatches", microbatches) >= 1, "microbatches", microbatches, "at least 1")
        parts = cut_batch(inputs, tags, self.head.num_tags, microbatches, example_weights)
        return self.accumulate(parts, loss_scale * self._scale_of(scaler, parts[0].inputs))

    def _scale_of(self, scaler: torch.amp.GradScaler | None, inputs: Inputs) -> float:
        """A scaler's factor, or 1; a new scaler makes it now, on the device of what it scales: that of the trunk."""
        if scaler is None:
            return 1.0
        device = next(self.trunk.parameters(), tensors_of(inputs)[0]).device
        return float(scaler.scale(torch.ones((), device=device)).item())

    def accumulate(self, microbatches: Sequence[MicroBatch], loss_scale: float = 1.0) -> float:
        """Add the gradient of the mean loss over all examples to the trunk's weights; rows learn on the way.

        Where it raises, nothing stays in flight, but rows of micro-batches that were shipped before may have learned.

        Args:
            microbatches: parts of a batch.
            loss_scale: a factor on the trunk's gradients; rows do not see it.

        Returns:
            The mean loss.

        Raises:
            ConfigError: there are no examples, `loss_scale` is no positive number, the head is in evaluation mode or
                has no workers, grad mode is off, or the trunk's passes cannot be recorded as CUDA graphs.
            DataError, ChunkError, ConfigError, HeadClosed, WorkerLost: as `WideHead.submit` and `collect`.
        """
        self.head.check_serves()  # before the trunk computes, and its BatchNorm learns
        check(any(len(part) for part in microbatches), "examples of all micro-batches", 0, "at least 1")
        check(0 < loss_scale < math.inf, "loss_scale", loss_scale, "above 0 and finite")
        check(self.head.training, "head.training", self.head.training, "True: call head.train()")
        check(torch.is_grad_enabled(), "grad mode", False, "on: rows would learn, and the trunk would not")
        tickets: list[Ticket] = []
        with self.head.sole_use:
            try:
                return self._accumulate(microbatches, loss_scale, tickets)
            except BaseException:
                for ticket in tickets:
                    self.head.router.give_up(ticket)
                raise

    def _accumulate(self, microbatches: Sequence[MicroBatch], loss_scale: float, tickets: list[Ticket]) -> float:
        """See `accumulate`; notes each ticket in `tickets`."""
        num_examples = sum(len(part) for part in microbatches)
        self.chunk_s = ()
        features, to_ship, first_chunk, ranges, upstream = [], None, 0, [], Upstream()
        for number, part in enumerate(microbatches):
            features_BD = self._forward(upstream.cut(part.inputs), number)
            departure = _Departure(features_BD)
            features.append(features_BD)
            chunks = range(first_chunk, first_chunk - (-len(features_BD) // self.head.config.chunk_size))
            first_chunk = chunks.stop
            ranges.append(chunks)
            if to_ship is not None:
                tickets.append(to_ship())
                to_ship = None
            ship = self._shipper(departure, part, number, chunks)
            if number == len(microbatches) - 1 or self._is_almost_there(departure, number):
                tickets.append(ship())
            else:
                to_ship = ship  # the next forward pass is queued on the device before this copy is waited for
        parts = enumerate(zip(features, tickets, ranges, strict=True))
        divisor = num_examples / loss_scale
        losses = [self._backward(f, t, divisor, number, chunks) for number, (f, t, chunks) in parts]
        upstream.backward()
        self.head.step += 1
        self._losses = losses
        return sum(float(loss_B.sum()) for loss_B in losses) / num_examples

    def _forward(self, inputs: Inputs, number: int) -> Tensor:
        with self._phase("forward", number):
            features_BD = self.passes.forward(inputs, number)
        check_float_tensor(features_BD)
        return features_BD

    def _is_almost_there(self, departure: "_Departure", number: int) -> bool:
        with self.timer.phase("ship", microbatch=number):
            return departure.is_almost_ready()

    def _shipper(self, departure: "_Departure", part: MicroBatch, number: int, chunks: range) -> Callable[[], Ticket]:
        """Draws now, while a device computes the features."""
        with self.timer.phase("ship", microbatch=number):
            drawn = self.head.draw(
                departure.shape,
                part.tags,
                update=True,
                pos_weights=self.pos_weights,
                example_weights=part.example_weights,
                first_chunk=chunks.start,
            )

        def ship() -> Ticket:
            with self.timer.phase("ship", microbatch=number):
                features_BD = departure.wait()
                if self.timer.trace is not None:
                    self.timer.trace.shipped(chunks)
                return self.head.ship(drawn, features_BD)

        return ship

    def _backward(
        self, features_BD: Tensor, ticket: Ticket, divisor: float, number: int, chunks: range
    ) -> npt.NDArray[np.float32]:
        with self.timer.phase("wait", microbatch=number):
            result = self.head.collect(ticket)
            if self.timer.trace is not None:
                self.timer.trace.collected(chunks)
        self.chunk_s += result.chunk_s
        with self._phase("backward", number):
            grad_BD = torch.from_numpy(result.feature_grad_BD).div_(divisor)
            self.passes.backward(features_BD, grad_BD, number)
        return result.loss_B

    @contextmanager
    def _phase(self, name: str, number: int) -> Iterator[None]:
        """A phase in which the trunk computes: on the host's clock, and on the device's if there is one."""
        with (
            self.timer.phase(name, microbatch=number),
            self.spans.phase(name) if self.spans is not None else nullcontext(),
        ):
            yield


class _Departure:
    """Features on their way to host memory; on CUDA a copy into pinned memory that an event ends.

    Float32 on the CPU is there already, and not copied.
    """

    def __init__(self, features_BD: Tensor) -> None:
        source = features_BD.detach()
        self.shape = source.shape
        self._event: torch.cuda.Event | None = None
        if source.device.type == "cuda":
            self._host_BD = torch.empty(source.shape, dtype=torch.float32, device="cpu", pin_memory=True)
            self._host_BD.copy_(source, non_blocking=True)
            self._event = torch.cuda.Event(blocking=True)  # else the host spins on a core that a worker may need
            self._event.record(torch.cuda.current_stream(source.device))
        else:
            self._host_BD = source.to("cpu", torch.float32).contiguous()

    def is_almost_ready(self) -> bool:
        """Whether waiting returns at once, after `_ALMOST_S` at most.

        A device that keeps up with the host, as with a small trunk, whose passes take longer to queue than to compute,
        has the features as soon as they are queued: workers then need not wait until the next pass is queued, too. A
        device that is behind has enough to do meanwhile.
        """
        if self._event is None:
            return True
        limit_s = time.perf_counter() + _ALMOST_S
        while not (is_there := self._event.query()) and time.perf_counter() < limit_s:
            time.sleep(_LOOK_S)
        return is_there

    def wait(self) -> npt.NDArray[np.float32]:
        if self._event is not None:
            self._event.synchronize()
        return self._host_BD.numpy()
