"""A scripted deep side for tests of the launcher: speaks the link as the real one does, and trains nothing.

As a program it stands in for `python -m hybrid`; its script comes as JSON in $SCRIPT. Imported, it starts launchers
that use it.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).resolve()
ROOT = PROGRAM.parent.parent
NUM_TAGS, DIM, NUM_ITEMS = 40, 8, 6
LIMIT_S = 300.0  # kernels of changed sources are compiled first, beside other tests
VIEW_STOP_S = 60.0
"""A launcher whose view has not shown the last state by then takes its reader for gone, and hurries its report."""

_LAUNCHER = f"""
import json
import os
import signal
import sys
import launch.child
signal.signal(signal.SIGINT, signal.default_int_handler)  # the shell of a script has what it puts behind ignore it
launch.child.TRUNK_COMMAND = (sys.executable, {str(PROGRAM)!r})
if "train" in sys.argv:  # other verbs show no view, and need not wait for its libraries
    import launch.views
    launch.views._STOP_S = json.loads(os.environ["SCRIPT"]).get("view_stop_s", {VIEW_STOP_S})
from launch.cli import main
main(prog_name="hybrid")
"""


def launcher_command(*arguments: str) -> list[str]:
    """A command line of `hybrid ARGUMENTS` whose deep side is this file."""
    return [sys.executable, "-c", _LAUNCHER, *arguments]


def launcher_environment(marker: object = "", **script: Any) -> dict[str, str]:
    """An environment for it, with a marker that `processes_of` finds; see `_train` for what a script may say.

    `view_stop_s` is for the launcher itself: how long it waits for whoever reads what it shows.
    """
    return {**os.environ, "PYTHONPATH": str(ROOT), "MARKER": str(marker), "SCRIPT": json.dumps(script)}


def run_launcher(folder: Path, *arguments: str, **script: Any) -> subprocess.CompletedProcess[str]:
    """Run `hybrid ARGUMENTS` in a folder to its end."""
    environment = launcher_environment(folder, **script)
    return subprocess.run(
        launcher_command(*arguments), cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT_S
    )


def start_launcher(
    folder: Path, *arguments: str, stdout: int = subprocess.PIPE, stderr: int = subprocess.PIPE, **script: Any
) -> subprocess.Popen[str]:
    """Start `hybrid ARGUMENTS` in a folder, in a group of its own."""
    return subprocess.Popen(
        launcher_command(*arguments),
        cwd=folder,
        env=launcher_environment(folder, **script),
        stdout=stdout,
        stderr=stderr,
        text=True,
        process_group=0,
    )


def wait_until(holds: Callable[[], Any], what: str, limit_s: float = LIMIT_S) -> Any:
    """Look again and again until something holds, and return it."""
    deadline = time.monotonic() + limit_s
    while not (value := holds()):
        assert time.monotonic() < deadline, f"waited {limit_s} s in vain for: {what}"
        time.sleep(0.02)
    return value


def only_run(folder: Path) -> Path | None:
    """The run directory under a folder's `runs`, once it is there."""
    found = list((folder / "runs").glob("[!.]*"))
    return found[0] if found else None


def processes_of(folder: Path) -> dict[int, str]:
    """Processes that live, zombies excepted, of launchers started in a folder: process id -> command line."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            is_ours = (
                f"MARKER={folder}\0".encode() in (entry / "environ").read_bytes() if entry.name.isdigit() else False
            )
            if is_ours and "State:\tZ" not in (entry / "status").read_text():
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # it ended while we looked
            continue
    return found


def signal_all(folder: Path, number: int = signal.SIGKILL) -> None:
    """Send a signal to all processes of launchers started in a folder, but for those that end while we look."""
    for pid in processes_of(folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _leave(link: str) -> None:
    """As the real deep side does when its launcher is gone."""
    from workers.endpoint import remove_endpoint

    remove_endpoint(link)
    os._exit(3)


def _prepare(options: argparse.Namespace, script: dict[str, Any]) -> None:
    import numpy as np

    from workers.lifeline import watch_owner
    from workers.link import Link

    watch_owner(options.lifeline_fd, lambda: _leave(options.link))
    link = Link.connect(options.link)
    link.send("progress", phase="prepare", text="rasterising", done=1, total=3)
    if script.get("prepare") == "hang":
        (options.directory / "prepare_hangs").touch()
        while (options.directory / "prepare_hangs").exists():
            link.receive(timeout_s=0.1)
    if script.get("prepare") == "fail":
        sys.exit("DataError: the registry cannot be reached; try again later")
    view = options.directory / "view"
    view.mkdir(exist_ok=True)
    item_tags = np.array([[i, i + 10] for i in range(NUM_ITEMS)], np.int32).ravel()
    np.save(view / "counts.npy", np.ones(NUM_TAGS, np.int64))
    np.save(view / "marginal.npy", np.full(NUM_TAGS, 1 / NUM_TAGS))
    np.save(view / "item_offsets.npy", np.arange(0, 2 * NUM_ITEMS + 1, 2, dtype=np.int64))
    np.save(view / "item_tags.npy", item_tags)
    prepared = {"num_tags": NUM_TAGS, "num_items": NUM_ITEMS, "num_train": NUM_ITEMS, "view": str(view)}
    (options.directory / "prepared.json").write_text(json.dumps(prepared))
    link.close()


def _train(options: argparse.Namespace, script: dict[str, Any]) -> None:
    """Send steps: `steps` of them, or until told to stop. `end` is finish, crash, kill (by SIGKILL), hang, forsaken:
    then it has all steps when it hears that no worker comes any more; or broken or refuse: then it ends before it is
    told what to do. `notes` is how many it sends before its measures.

    With `router`, workers are served by the real router. What the launcher says is kept in heard.jsonl.
    """
    from workers.assignment import Assignment
    from workers.lifeline import watch_owner
    from workers.link import Link

    watch_owner(options.lifeline_fd, lambda: _leave(options.link))
    if script.get("end") == "broken":
        sys.exit("ImportError: torch is broken")
    if script.get("end") == "refuse":
        print("Error: trunk.device = 'cuda', but torch finds no CUDA device.", flush=True)
        sys.exit(2)
    assignment = Assignment.receive(options.assignment_fd)
    if assignment is None:
        sys.exit("nobody assigns anything")
    trunk = _Trunk(options, Link.connect(options.link), assignment, script)
    print(f"threads {os.environ['OMP_NUM_THREADS']}, {assignment.threads}, resume {assignment.resume}", flush=True)
    print(f"keeps memory up to {os.environ['MALLOC_TRIM_THRESHOLD_']}", flush=True)
    trunk.link.send("note", text="the scripted trunk has started")
    while not trunk.is_stopping and not trunk.has_learned:
        trunk.make_step()
    end = script.get("end", "finish")
    print("2026-11-26 01:02:03,456 INFO hybrid.data.prepare: only news", flush=True)
    if end == "crash":
        sys.exit("ValueError: the trunk broke at its last step")
    if end == "kill":
        os.kill(os.getpid(), 9)
    while end == "hang":
        trunk.link.receive(timeout_s=1.0)
    while end == "forsaken" and not trunk.is_forsaken:
        trunk.listen(1.0)
    trunk.finish()


class _Trunk:
    def __init__(self, options: argparse.Namespace, link: Any, assignment: Any, script: dict[str, Any]) -> None:
        from workers.matrix import TagMatrix

        self.options, self.link, self.assignment, self.script = options, link, assignment, script
        self.matrix = TagMatrix.attach(assignment.matrix_fd)
        self.is_told_to_stop = self.is_forsaken = False
        self.step, self.lost = 0, []
        self.router = self._make_router() if script.get("router") else None

    @property
    def is_stopping(self) -> bool:
        return self.is_told_to_stop or (self.is_forsaken and not self.has_learned)

    @property
    def has_learned(self) -> bool:
        return self.step >= self.script.get("steps", 10**9)

    def poll(self) -> list[str]:
        """Membership of the router, as the link tells it."""
        self.listen(0.0)
        lost, self.lost = self.lost, []
        return lost

    def kill(self, name: str) -> None:
        self.link.send("kill", worker=name)

    def make_step(self) -> None:
        from launch.run_settings import keep_proposed

        self.step += 1
        keep_proposed(self.options.directory)
        self.matrix.rows_ND[0] = self.step
        workers = [{"name": "worker-0-0", "state": "ready", "rows_per_s": 1e6, "in_flight": 1}]
        if self.router is not None:
            self.router.service()
            workers = [
                {"name": w.name, "state": w.state, "rows_per_s": w.rows_per_s, "in_flight": w.in_flight}
                for w in self.router.workers()
            ]
        fraction = min(1.0, self.step / 400)
        self.link.send(
            "step", step=self.step, epoch=self.step / 10, examples_per_s=812.5, loss=5.0 / (1 + self.step / 20),
            lr=2e-3, row_lr=9e-3, in_flight=3, wait_fraction=0.021, negatives=1024, fraction=fraction,
            eta_s=400 - self.step, staleness_chunks=1.5, chunks_resent=0, workers=workers,
        )  # fmt: skip
        self.listen(0.02)

    def finish(self) -> None:
        from workers.config import HeadConfig
        from workers.matrix_io import save_matrix

        checkpoint = self.options.directory / "checkpoints" / f"step-{self.step:09d}"
        checkpoint.mkdir(parents=True, exist_ok=True)
        save_matrix(self.matrix, checkpoint / "matrix", HeadConfig())
        if self.is_stopping:  # then nothing is measured
            self.link.close()
            return
        for number in range(self.script.get("notes", 0)):
            self.link.send("note", text=f"note {number}")
        self.link.send("trained")
        popularity = {"P@5": 0.399, "mAP": 0.011, "distinct tags": 5}
        table = {"P@5": 0.713, "mAP": 0.187, "mAP bounds": [2, 50], "distinct tags": 1234, "items": 1467}
        self.link.send("metrics", table={"test": {**table, "popularity": popularity}})
        self.link.send(
            "done", outputs={"gallery": str(self.options.directory / "gallery.html"), "example_tag": "water"}
        )
        self.link.close()

    def _make_router(self) -> Any:
        from workers.config import HeadConfig
        from workers.ring import Ring
        from workers.router import Router

        ring = None if self.assignment.ring_fd is None else Ring.attach(self.assignment.ring_fd)
        return Router(self.assignment.endpoint, head=HeadConfig(), matrix=self.matrix, membership=self, ring=ring)

    def listen(self, timeout_s: float) -> None:
        for message in self.link.receive(timeout_s):
            with (self.options.directory / "heard.jsonl").open("a") as file:
                file.write(json.dumps(message) + "\n")
            if message["kind"] == "stop":
                self.is_told_to_stop = True
            elif message["kind"] == "no_workers":
                self.is_forsaken = True
            elif message["kind"] == "lost":
                self.lost.append(message["worker"])
            elif message["kind"] == "drain" and self.router is not None:
                self.router.drain(message["worker"])


def _main() -> None:
    verb = sys.argv[1]
    if verb not in ("prepare", "train"):  # the verbs that the launcher becomes: say how they were called
        print(json.dumps({"called": sys.argv[1:]}))
        sys.exit(7 if "fail" in sys.argv else 0)
    parser = argparse.ArgumentParser()
    parser.add_argument("verb")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--link", required=True)
    parser.add_argument("--lifeline-fd", type=int, required=True)
    if verb == "train":
        parser.add_argument("--assignment-fd", type=int, required=True)
    script = json.loads(os.environ["SCRIPT"])
    {"prepare": _prepare, "train": _train}[verb](parser.parse_args(), script)


if __name__ == "__main__":
    _main()
