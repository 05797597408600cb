"""The worker process: `python -m workers`, started by `workers.pool`."""

import argparse
import functools
import logging
import os
import signal
import sys

from workers.cores import of_text, pin
from workers.endpoint import remove_endpoint
from workers.lifeline import TERMINATED_STATUS, watch_owner


def main() -> None:
    """Map the inherited matrix, then serve until the trunk or the owner ends it."""
    options = _parse()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the owner, which ends its workers in order
    for number in (signal.SIGUSR1, signal.SIGUSR2):  # a batch system's words to its whole job: the owner's to answer
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED_STATUS))
    watch_owner(options.lifeline_fd, functools.partial(_leave_as_orphan, options.endpoint), options.owner_pid)
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s {options.name} %(levelname)s %(name)s: %(message)s")
    pin(of_text(options.cores))

    from workers.matrix import TagMatrix  # compiled numerics: half a second, during which the lifeline already watches
    from workers.ring import Ring
    from workers.trace import TraceWindow
    from workers.worker import WorkerIdentity, serve

    matrix = TagMatrix.attach(options.matrix_fd)
    ring = None if options.ring_fd is None else Ring.attach(options.ring_fd)
    window = TraceWindow.of_text(options.trace) if options.trace else None
    serve(options.endpoint, matrix, ring, WorkerIdentity(options.name, options.index), window)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m workers", description=__doc__)
    parser.add_argument("--endpoint", required=True, help="where the trunk listens")
    parser.add_argument("--matrix-fd", type=int, required=True, help="inherited descriptor of the shared tag matrix")
    parser.add_argument("--ring-fd", type=int, default=None, help="inherited descriptor of the ring, if there is one")
    parser.add_argument("--lifeline-fd", type=int, required=True, help="inherited reading end of the owner's lifeline")
    parser.add_argument("--owner-pid", type=int, default=None, help="process id of the owner, if it is the parent")
    parser.add_argument("--index", type=int, required=True, help="place in the pool, taken over by a replacement")
    parser.add_argument("--name", required=True, help="never used twice")
    parser.add_argument("--cores", default="", help="keep to these cores")
    parser.add_argument("--trace", help="FIRST:NUMBER:FOLDER: trace these steps of the trunk into this folder")
    return parser.parse_args()


def _leave_as_orphan(endpoint: str) -> None:
    """End at once, in whatever state: the matrix goes with its last process, the endpoint does not."""
    remove_endpoint(endpoint)
    os._exit(3)


if __name__ == "__main__":
    main()
