"""The processes of a run that the launcher starts: one that prepares the data, one that trains."""

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NoReturn

from hybrid.data.prepare import prepare
from hybrid.data.view import checked_head_folder
from hybrid.learned_data import prepare_learned
from hybrid.rundir import RunDirectory
from hybrid.supervision import Supervision
from launch.config import TrunkConfig
from launch.runs import checkpoint_folders
from workers.assignment import Assignment
from workers.cores import available_cores, of_text, pinned
from workers.counters import POSITIVES, stream_key
from workers.disk import write_whole
from workers.endpoint import remove_endpoint
from workers.lifeline import watch_owner

ORPHANED_STATUS = 3


def run_prepare(directory: Path, link: str, lifeline_fd: int) -> None:
    """Prepare the data of a run; leave what the launcher must know in `prepared.json`, and the vocabulary."""
    with _supervised(link, lifeline_fd) as supervision:
        run = RunDirectory(directory)
        config = run.launched_config()
        is_trained = bool(checkpoint_folders(run.checkpoints))
        progress = partial(supervision.progress, "data")
        view = prepare_learned(run, config.data, progress) if is_trained else prepare(config.data, progress)
        if is_trained and run.config().data.source != config.data.source:
            run.keep_source(config.data.source)
            supervision.tell("note", text=f"{config.data.source} holds the data that the run learned")
        if not (is_trained and run.vocabulary.exists()):  # what its rows stand for is not written again
            view.save_vocabulary(run.vocabulary)
        if view.dropped:
            dropped = ", ".join(f"{count:,} {reason}" for reason, count in view.dropped.items() if count)
            if dropped:
                supervision.tell("note", text=f"left out: {dropped}; names in {view.skipped_path}")
        prepared = {
            "num_tags": len(view.marginal),
            "num_items": len(view),
            "num_train": len(view.train_items),
            "view": str(checked_head_folder(view)),
            "fingerprint": view.fingerprint,
            "content": view.content,
        }
        write_whole(run.prepared_file, json.dumps(prepared, indent=1) + "\n")


def run_train(directory: Path, link: str, lifeline_fd: int, assignment_fd: int) -> None:
    """Train a run to the end of its budget, then show what it learned; or until the launcher asks to stop.

    Before it waits for its assignment it loads what takes long, and refuses what it could not train. While it trains it
    keeps to the cores that it is told, if any; for the rest, when the workers rest, it uses all.
    """
    # Who ends a service, a job or a machine signals every process, a batch system some time before: it is for the
    # launcher to ask for a save. These are the signals that it counts as a wish to stop; processes that read pictures
    # inherit that they are ignored.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    with _supervised(link, lifeline_fd) as supervision, contextlib.ExitStack() as stack:
        _load_libraries()
        _check(RunDirectory(directory).launched_config().trunk)
        assignment = Assignment.receive(assignment_fd)
        if assignment is None:  # the data could not be prepared, the run was stopped, or its launcher killed
            _leave(link)
        import torch

        from hybrid.training_run import TrainingRun
        from workers.matrix import TagMatrix
        from workers.ring import Ring
        from workers.trace import TraceWindow

        window = None if assignment.trace is None else TraceWindow.of_text(assignment.trace)
        run, matrix = RunDirectory(directory), TagMatrix.attach(assignment.matrix_fd)
        ring = None if assignment.ring_fd is None else Ring.attach(assignment.ring_fd)
        all_cores = available_cores()
        torch.set_num_threads(assignment.threads)
        with pinned(of_text(assignment.cores)):
            training = TrainingRun(
                run,
                matrix,
                ring,
                assignment.endpoint,
                supervision,
                resume=assignment.resume,
                window=window,
                cores=all_cores,
                are_threads_fixed=assignment.are_threads_fixed,
            )
            stack.enter_context(contextlib.closing(training))
            is_done = training.train()
        if is_done:
            supervision.release_workers()
            from hybrid.finish import (
                finish_run,  # late: it loads what draws figures, which the first step need not await
            )

            finish_run(training)


def _leave(link: str) -> NoReturn:
    """End at once: nobody waits for what this process would do."""
    remove_endpoint(link)
    os._exit(ORPHANED_STATUS)


def _load_libraries() -> None:
    """Load what a training needs; torch loads much with the first optimizer, Numba with the first kernel."""
    import torch

    import hybrid.training_run  # noqa: F401

    torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])
    stream_key(0, 0, 0, POSITIVES)


def _check(config: TrunkConfig) -> None:
    """Raise ConfigError for a device that is not there, or a trunk that cannot be found: data may take long to come."""
    from hybrid.device import choose_device
    from hybrid.trunks import find_factory

    choose_device(config.device)
    find_factory(config.factory)


@contextlib.contextmanager
def _supervised(link: str, lifeline_fd: int) -> Iterator[Supervision]:
    """A link to the launcher; this process ends at once when the launcher is gone."""

    watch_owner(lifeline_fd, partial(_leave, link))
    supervision = Supervision(link)
    try:
        yield supervision
    finally:
        supervision.close()
