"""The supervisor of one run: owns shared memory, run directory and the lifetimes of all its processes."""

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import zmq

from launch.background import Background
from launch.checkpoint_cost import checkpoint_remark
from launch.config import RunConfig
from launch.control import ControlServer
from launch.deep_process import DeepProcess, PrepareProcess, TrunkProcess
from launch.interruption import Interrupted, StoppedBeforeStart
from launch.lost_workers import LostWorkers
from launch.placement import Placement, place_run, scale_remark
from launch.profile import open_profile
from launch.recorder import Recorder
from launch.resources import Endpoints, Prepared, make_matrix, open_ring
from launch.runs import latest_checkpoint, step_of
from launch.snapshot import Snapshot
from launch.start_up import StartUp
from launch.stop_signals import StopSignals
from launch.topology import read_topology
from launch.views import View
from workers.assignment import Assignment
from workers.config import MAX_WORKERS
from workers.cores import as_text, pinned
from workers.errors import RunError
from workers.link import Link, Message
from workers.matrix import TagMatrix
from workers.pool import WorkerPool
from workers.ring import Ring

_TICK_MS = 100
_SILENCE_S = 300.0  # whoever works says what it does: silence this long means that it hangs
_POOL_CLOSE_S = 10.0


class Supervisor:
    """Prepares the data, starts the workers and the trunk, watches them, and ends them in order.

    The order of a run, which `run` follows:

        1. open the control socket; write run.json (the caller holds the lock of the run directory)
        2. start the trunk (a child), which loads torch while 3 and 4 go on, and waits
        3. prepare the data set (a child), cached
        4. the tag matrix in shared memory, fresh or from the newest checkpoint; the workers
        5. tell the trunk where both are
        6. until the trunk exits: answer requests, pass news on, replace dead workers, show the state
        7. close the pool, the sockets, the memory, whatever happened

    Args:
        directory: the run directory, which exists.
        config: the resolved settings.
        resume: go on from the newest checkpoint, if there is one.
        view: shows the state; must not wait for whoever reads it.
        snapshot: what is shown; read it after `run` for metrics and outputs.
    """

    def __init__(self, directory: Path, config: RunConfig, *, resume: bool, view: View, snapshot: Snapshot) -> None:
        self.directory, self.config, self.resume = directory, config, resume
        self.view, self.snapshot = view, snapshot
        self._signals = StopSignals()
        self._start_up = StartUp()
        self._placement: Placement | None = None
        self._is_stop_sent = self._is_silence_told = False
        self._link: Link | None = None
        self._waiting: TrunkProcess | None = None
        self._pool: WorkerPool | None = None
        self._lost_workers: LostWorkers | None = None
        self._control: ControlServer | None = None

    def run(self) -> None:
        """The whole run, to a finished training or one that was stopped in order.

        Raises:
            Interrupted: it was stopped before the first step, or ended by force.
            ConfigError: the deep side refuses a setting.
            RunError: a process failed (the message holds the end of its log), or the system refuses what a run needs.
            WorkerLost: workers die as fast as they are replaced; the trunk was asked to save before.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._signals)
            endpoints = Endpoints.make()
            stack.callback(endpoints.remove)
            self._open_control(endpoints, stack)
            self.view.start()
            stack.callback(lambda: self.view.stop(self.snapshot))
            self._recorder = Recorder(self.directory, self.snapshot, endpoints.control, resume=self.resume)
            stack.enter_context(self._recorder.until_the_end(self._was_stopped))
            trunk = TrunkProcess(self.directory, endpoints, place_run(self.config, read_topology()).threads)
            stack.callback(trunk.close)
            self._waiting = trunk
            self._prepare(endpoints)
            self._train(endpoints, trunk, stack)

    def _open_control(self, endpoints: Endpoints, stack: contextlib.ExitStack) -> None:
        handlers = {"status": self._answer_status, "scale": self._answer_scale, "stop": self._answer_stop}
        self._control = ControlServer(endpoints.control, handlers)
        stack.callback(self._control.close)
        self.snapshot.workers_wanted = self.config.workers

    def _prepare(self, endpoints: Endpoints) -> None:
        self.snapshot.show("prepare", "preparing the data")
        self._start_up.reach("launcher")
        self._watch(PrepareProcess(self.directory, endpoints), can_finish=False)
        self._start_up.reach("data")

    def _train(self, endpoints: Endpoints, trunk: TrunkProcess, stack: contextlib.ExitStack) -> None:
        prepared = Prepared.read(self.directory)
        checkpoint = latest_checkpoint(self.directory) if self.resume else None
        matrix = self._make_matrix(prepared, checkpoint)
        stack.callback(matrix.close)
        self._placement = placement = place_run(self.config, read_topology())  # workers may have been scaled meanwhile
        for remark in placement.remarks:
            self._note(remark)
        ring = self._make_ring(stack)
        profile = open_profile(self.directory, self.config.profile_steps, step_of(checkpoint))
        if profile is not None:
            stack.callback(lambda: self._note(profile.merge()))  # called when all who write to it have ended
        window = profile.window if profile else None
        self._pool = WorkerPool(
            matrix,
            endpoints.head,
            self.config.workers,
            ring=ring,
            log_dir=self.directory / "log",
            cores=placement.workers,
            window=window,
        )
        stack.callback(self._close_pool)
        self._lost_workers = LostWorkers(self._pool, self.snapshot, self._note)
        self._recorder.enter("training")
        self.snapshot.show("start", "starting the trunk")
        trunk.assign(
            Assignment(
                matrix_fd=matrix.fd,
                ring_fd=None if ring is None else ring.fd,
                endpoint=endpoints.head,
                threads=placement.threads,
                are_threads_fixed=placement.are_threads_fixed,
                cores=as_text(placement.trunk),
                resume=checkpoint,
                trace=None if window is None else window.text,
            )
        )
        self._waiting = None
        with self._lost_workers.told_first(self._was_stopped):
            self._watch(trunk, can_finish=True)

    def _make_matrix(self, prepared: Prepared, checkpoint: Path | None) -> TagMatrix:
        """In a thread: a large one takes minutes, in which people ask, look and lose patience."""
        self.snapshot.show("matrix", f"making the tag matrix, {prepared.num_tags:,} x {self.config.trunk.dim}")
        self.view.update(self.snapshot, force=True)
        config, cores = self.config, place_run(self.config, read_topology()).memory
        see_load = partial(self.snapshot.show, "matrix", "reading the tag matrix")

        def make() -> TagMatrix:
            with pinned(cores):
                return make_matrix(config, prepared, checkpoint, see_load)

        work = Background(make, "tag matrix")
        while not work.is_done(_TICK_MS / 1000):
            self._serve()
            if self._signals.asked:
                raise StoppedBeforeStart
        matrix = work.result()
        self._start_up.reach("tag matrix")
        self._note(f"{prepared.num_train:,} training images, {prepared.num_tags:,} tags; {matrix.huge_pages}")
        if remark := checkpoint_remark(matrix.nbytes, 60 * self.config.train.checkpoint_minutes):
            self._note(remark)
        if checkpoint is not None:
            self._note(f"resuming from {checkpoint.name}")
        return matrix

    def _make_ring(self, stack: contextlib.ExitStack) -> Ring | None:
        ring = open_ring(self.config)
        if ring is None:
            self._note("transport zmq: features and gradients go over ZeroMQ")
            return None
        stack.callback(ring.close)
        self._note(f"transport ring: {ring.num_berths} chunks at a time pass through shared memory")
        return ring

    def _watch(self, process: DeepProcess, *, can_finish: bool) -> None:
        """See a process through to its end, serving everybody meanwhile."""
        assert self._control is not None, "opened before a process is started"
        self._link = process.link
        poller = zmq.Poller()
        poller.register(self._control.socket, zmq.POLLIN)
        poller.register(process.link.socket, zmq.POLLIN)
        self.snapshot.hear()
        try:
            while (code := process.child.exit_code()) is None:
                self._serve()
                self._obey_stop(process, can_finish=can_finish)
                poller.poll(_TICK_MS)
            for message in process.link.receive_rest():  # many, if we were stopped (Ctrl-Z) while it ended
                self._take(message)
            self._serve()
            if code != 0:
                raise process.child.error(code)
        finally:
            self._link = None
            process.close()

    def _serve(self) -> None:
        assert self._control is not None, "opened first of all"
        self._recorder.check()
        self._control.serve()
        for message in self._link.receive() if self._link is not None else ():
            self._is_silence_told = False
            self._take(message)
        if self._lost_workers is not None:
            self._lost_workers.look(self._link)
        self.view.update(self.snapshot)
        if self._waiting is not None:
            self._waiting.check()

    def _take(self, message: Message) -> None:
        self.snapshot.hear()
        if message["kind"] == "note":
            self._note(message["text"])
        elif message["kind"] == "kill" and self._pool is not None:
            self._pool.kill(message["worker"])
        elif message["kind"] == "trained" and self._lost_workers is not None:
            self._lost_workers.release()
        else:
            if message["kind"] == "step" and not self.snapshot.step:
                self._start_up.reach("trunk and workers")
                self._note(self._start_up.report)
            self.snapshot.take(message)

    def _was_stopped(self) -> bool:
        """Whether a wish to stop came before the trunk was done."""
        return self._is_stop_sent and not self.snapshot.outputs

    def _obey_stop(self, process: DeepProcess, *, can_finish: bool) -> None:
        """Pass a wish to stop on, once; end by force what does not obey, or what the user will not wait for."""
        if self._signals.impatient:
            process.child.close(terminate_s=0.0)
            raise Interrupted("interrupted twice: all processes were killed")
        if self._signals.asked and not self._is_stop_sent:
            if not can_finish:
                raise StoppedBeforeStart
            self.snapshot.state = "stopping"
            self._is_stop_sent = True
            self.snapshot.hear()
            if self._link is not None:
                self._link.send("stop")
        if self.snapshot.silent_s > _SILENCE_S:
            self._judge_silence(process.child.log.stem)

    def _judge_silence(self, name: str) -> None:
        said = f"{name} said nothing for {_SILENCE_S:g} s"
        if self._is_stop_sent or (self._lost_workers is not None and self._lost_workers.failure is not None):
            raise RunError(f"{said} after it was asked to stop, and was killed.")
        if not self._is_silence_told:
            self._is_silence_told = True
            self._note(f"{said}: it may hang. Ctrl-C twice ends the run, and --resume takes it up again")

    def _note(self, text: str) -> None:
        self.snapshot.note(text)
        self.view.note(text)

    def _answer_status(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return {"status": self.snapshot.plain()}

    def _answer_scale(self, request: Mapping[str, Any]) -> dict[str, Any]:
        wanted = request.get("workers")
        if type(wanted) is not int or not 1 <= wanted <= MAX_WORKERS:
            raise RunError(f"workers = {wanted!r}, but it must be between 1 and {MAX_WORKERS}.")
        before = self.snapshot.workers_wanted
        if self._pool is None:  # they are not started yet: start that many
            self.config = replace(self.config, workers=wanted)
        else:
            self._scale(self._pool, wanted)
        self.snapshot.workers_wanted = wanted
        own = self._placement.workers if self._placement else ()
        remark = scale_remark(wanted, own, self.config.chunks_per_step)
        self._note(f"scaled from {before} to {wanted} workers{remark and '; ' + remark}")
        return {"before": before, "workers": wanted, "remark": remark}

    def _scale(self, pool: WorkerPool, wanted: int) -> None:
        for name in pool.scale(wanted):
            if self._link is not None:
                self._link.send("drain", worker=name)

    def _answer_stop(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self._signals.asked = True
        return {}

    def _close_pool(self) -> None:
        if self._pool is not None:
            self._pool.close(_POOL_CLOSE_S)
            self._pool = None
