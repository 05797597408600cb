"""The pool of worker processes: starts, watches, replaces and scales them.

    owner                        pool                                   trunk's router
    WorkerPool(matrix, ...)  ->  spawns worker-0-1 .. worker-{W-1}-1
    poll()                   ->  reaps the dead, spawns worker-1-2      their names: chunks are sent again
    scale(more)              ->  spawns
    scale(fewer)             ->  marks the last ones as leaving         their names: `Router.drain(name)`
    close()                  ->  SIGTERM, a while, SIGKILL

The owner of the pool need not be the trunk: names are all that they exchange. A worker that leaves exits by itself when
the router let it go; if it has neither left nor served anything for `_LEAVE_LIMIT_S` it is killed, and `poll` names it
like any other loss. One that is still starting holds no chunk: it is ended at once, so that it takes no time from those
that stay.
"""

import collections
import contextlib
import logging
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from workers.config import MAX_WORKERS
from workers.crash_loops import WINDOW_S, CrashLoops
from workers.environment import OUTPUT_IN_UTF8, child_environment
from workers.errors import WorkerLost
from workers.lifeline import TERMINATED_STATUS, Lifeline
from workers.matrix import TagMatrix
from workers.pooled_worker import PooledWorker
from workers.ring import Ring, check_reach
from workers.settings import check, whole_number
from workers.trace import TraceWindow
from workers.worker_log import WorkerLog
from workers.worker_stats import SERVED, WARM_UP_NS

_LEAVE_LIMIT_S = 60.0
_KILL_LIMIT_S = 10.0

_ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")

_log = logging.getLogger(__name__)


class WorkerPool:
    """Worker processes on one matrix, for the router at one endpoint. A `workers.membership.Membership`.

    Args:
        matrix: inherited by the workers through its descriptor.
        endpoint: where the trunk listens, now or soon.
        num_workers: how many to start.
        ring: inherited likewise; None: all arrays go over ZeroMQ.
        log_dir: each worker appends to `worker-INDEX.log` in it; None keeps the last words of one that crashes, for a
            warning.
        cores: the worker in place i, and whoever replaces it, keeps to core `cores[i % len(cores)]`; empty: to none.
        window: which steps the workers trace; None traces nothing.

    Raises:
        ConfigError: the number of workers is out of bounds, or there is a ring and the endpoint is not `ipc://`.

    Concurrency: for one thread. In a process forked from the owner, `close` does nothing.
    """

    def __init__(
        self,
        matrix: TagMatrix,
        endpoint: str,
        num_workers: int,
        *,
        ring: Ring | None = None,
        log_dir: Path | None = None,
        cores: Sequence[int] = (),
        window: TraceWindow | None = None,
    ) -> None:
        check_reach(ring, endpoint)
        self._matrix, self._endpoint, self._log_dir, self._ring = matrix, endpoint, log_dir, ring
        self._cores, self._window = cores, window
        self._owner_pid = os.getpid()
        self._lifeline = Lifeline()
        self._workers: dict[str, PooledWorker] = {}
        self._incarnations: collections.Counter[int] = collections.Counter()
        self._crash_loops = CrashLoops(MAX_WORKERS)
        self._empty_places: dict[int, float] = {}  # and when the next attempt is due
        self._failure: WorkerLost | None = None
        try:
            self.scale(num_workers)
        except BaseException:
            self.close()
            raise

    @property
    def workers(self) -> list[PooledWorker]:
        """All processes, by index; those that leave too."""
        return sorted(self._workers.values(), key=lambda w: (w.index, w.name))

    def poll(self) -> list[str]:
        """Reap and replace the dead; a place whose worker cannot be started now is tried again at the next call.

        A place whose workers die again and again, while others serve or could, waits longer and longer for the next.

        Returns:
            Names of workers that died: chunks that they held must be sent again.

        Raises:
            WorkerLost: workers die again and again, none has served anything meanwhile, and none that lives is ready;
                with the last words of the last one.
        """
        if self._failure is not None:
            raise self._failure
        lost = []
        for worker in self.workers:
            status = worker.process.poll()
            if status is None:
                self._kill_if_late(worker)
            elif not self._bury(worker, status):
                lost.append(worker.name)
        now_s = time.monotonic()
        for index in sorted(index for index, due_s in self._empty_places.items() if now_s >= due_s):
            self._fill_place(index)
        return lost

    def place_of(self, name: str) -> str:
        """What `poll` made of the place of a worker that it named.

        Returns:
            `filled`, `waiting` (for its next worker), or `given up` (the worker was leaving).
        """
        index = int(name.split("-")[1])
        if index in self._empty_places:
            return "waiting"
        return "filled" if any(worker.index == index for worker in self._workers.values()) else "given up"

    def kill(self, name: str) -> None:
        """SIGKILL this worker; `poll` will name it. Names that are not there any more are ignored."""
        if name in self._workers:
            self._workers[name].is_given_up = True
            self._workers[name].process.kill()

    def scale(self, num_workers: int) -> list[str]:
        """Start workers, or choose those that go, the last ones first.

        Returns:
            Names of the workers that go: the router must let them finish, by `Router.drain(name)`.

        Raises:
            ConfigError: it is no whole number, or out of bounds, or so many more have no place before those that leave
                have left.
            WorkerLost: a process cannot be started (no memory, too many processes); there are as many as before.
        """
        num_workers = whole_number("workers", num_workers)
        check(1 <= num_workers <= MAX_WORKERS, "workers", num_workers, f"between 1 and {MAX_WORKERS}")
        staying = [worker for worker in self.workers if not worker.is_leaving]
        taken = {worker.index for worker in self.workers}
        free, missing = [i for i in range(MAX_WORKERS) if i not in taken], max(0, num_workers - len(staying))
        check(
            missing <= len(free), "workers", num_workers,
            f"at most {len(staying) + len(free)} until those that are leaving have left: try again in a moment",
        )  # fmt: skip
        for index in free[:missing]:
            try:
                self._spawn(index)
            except OSError as error:
                self._let_go([worker for worker in self.workers if worker.index in free[:missing]])
                raise WorkerLost(f"worker {index} cannot be started: {error}.") from error
        self._empty_places.clear()
        leaving = staying[num_workers:]
        self._let_go(leaving)
        return [worker.name for worker in leaving]

    def _let_go(self, leaving: Iterable[PooledWorker]) -> None:
        """Whoever has its kernels finishes what it holds, as the router tells it; whoever has not ends at once."""
        for worker in leaving:
            worker.leaves_before_s = time.monotonic() + _LEAVE_LIMIT_S
            if worker.is_starting(self._matrix):
                worker.process.terminate()

    def close(self, timeout_s: float = 5.0) -> None:
        """End all workers: by SIGTERM, and after the limit by SIGKILL. Safe to call twice."""
        if os.getpid() != self._owner_pid:
            return
        for worker in self._workers.values():
            worker.process.terminate()
            worker.process.send_signal(signal.SIGCONT)  # a stopped process would not see the first signal
        deadline = time.monotonic() + timeout_s
        for worker in self.workers:
            try:
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _log.warning("worker %s does not end, and is killed", worker.name)
                worker.process.kill()
                with contextlib.suppress(subprocess.TimeoutExpired):  # unkillable: in the kernel, on a dead disk
                    worker.process.wait(_KILL_LIMIT_S)
            worker.log.close()
            del self._workers[worker.name]
        self._lifeline.close()

    def _spawn(self, index: int) -> None:
        self._incarnations[index] += 1
        name = f"worker-{index}-{self._incarnations[index]}"  # which `place_of` reads
        # -P: a directory `workers` where the user happens to stand is not ours.
        command = [sys.executable, "-P", "-m", "workers", "--name", name, "--index", str(index)]
        command += ["--endpoint", self._endpoint, "--owner-pid", str(self._owner_pid)]
        command += ["--matrix-fd", str(self._matrix.fd), "--lifeline-fd", str(self._lifeline.read_fd)]
        if self._cores:
            command += ["--cores", str(self._cores[index % len(self._cores)])]
        if self._window is not None:
            command += ["--trace", self._window.text]
        inherited = [self._matrix.fd, self._lifeline.read_fd]
        if self._ring is not None:
            command += ["--ring-fd", str(self._ring.fd)]
            inherited.append(self._ring.fd)
        log = WorkerLog(self._log_dir, index)
        warm_up_ns = int(self._matrix.worker_stats_WS[index, WARM_UP_NS])
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log.file,
                stderr=log.file,
                env={**child_environment(), **OUTPUT_IN_UTF8, **_ONE_THREAD, "PYTHONFAULTHANDLER": "1"},
                pass_fds=inherited,
                process_group=0,  # Ctrl-C in the terminal is for the owner alone
            )
        except BaseException:
            log.close()
            raise
        self._workers[name] = PooledWorker(name, index, process, log, warm_up_ns)

    def _bury(self, worker: PooledWorker, status: int) -> bool:
        """Forget an exited worker and replace it unless it was to leave; whether it left in order."""
        del self._workers[worker.name]
        last_words = worker.log.last_words()
        worker.log.close()
        if worker.is_leaving:
            was_terminated = status in (-signal.SIGTERM, TERMINATED_STATUS)
            is_orderly = status == 0 or (was_terminated and worker.is_starting(self._matrix))
            return is_orderly and not worker.is_given_up
        said = f", and said:\n{last_words}" if last_words else ""
        _log.warning("worker %s (process %d) ended with status %d%s", worker.name, worker.pid, status, said)
        self._check_hope(worker, status, last_words)
        if pause_s := self._crash_loops.pause_s(worker.index):
            _log.warning("it has served nothing, like those before it: its place waits %g s for the next", pause_s)
            self._empty_places[worker.index] = time.monotonic() + pause_s
        else:
            self._fill_place(worker.index)
        return False

    def _fill_place(self, index: int) -> None:
        """Start a successor; where the machine cannot just now, the place waits for the next `poll`."""
        try:
            self._spawn(index)
            self._empty_places.pop(index, None)
        except OSError as error:
            if index not in self._empty_places:
                _log.warning("worker %d cannot be started again now: %s", index, error)
            self._empty_places[index] = 0.0

    def _check_hope(self, worker: PooledWorker, status: int, last_words: str) -> None:
        """Replacing is hopeless if workers die one after the other, none has served a chunk meanwhile, and none could.

        Those that are ready serve nothing while the trunk submits nothing: it saves, or validates.
        """
        self._crash_loops.note_death(worker.index, self._matrix.worker_stats_WS[:, SERVED], time.monotonic())
        num_deaths = self._crash_loops.num_hopeless(len(self._workers))
        if num_deaths and not any(other.is_ready(self._matrix) for other in self._workers.values()):
            self._failure = WorkerLost(
                f"{num_deaths} workers died within {WINDOW_S:.0f} s and served nothing, and no other is ready. "
                f"The last, {worker.name}, ended with status {status} and said:\n{last_words or '(nothing)'}"
            )
            raise self._failure

    def _kill_if_late(self, worker: PooledWorker) -> None:
        now_s, num_served = time.monotonic(), int(self._matrix.worker_stats_WS[worker.index, SERVED])
        if worker.leaves_before_s is None or num_served != worker.num_served:  # it stays, or answers what it holds
            worker.num_served = num_served
            worker.leaves_before_s = None if worker.leaves_before_s is None else now_s + _LEAVE_LIMIT_S
        elif now_s > worker.leaves_before_s:
            _log.warning("worker %s has not left for %.0f s, and is killed", worker.name, _LEAVE_LIMIT_S)
            worker.process.kill()
            worker.leaves_before_s = math.inf  # once; it may take its time to die
