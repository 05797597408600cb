"""The processes of a run's deep side, each with a link to the launcher."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from launch.child import TRUNK_MEMORY, Child
from launch.resources import Endpoints
from launch.trunk_threads import set_threads
from workers.assignment import Assignment, make_connection
from workers.environment import child_environment
from workers.errors import RunError
from workers.lifeline import Lifeline
from workers.link import Link


class DeepProcess:
    """A verb of the deep side: its process, the link to it, and the lifeline by which it learns that we are gone.

    Raises:
        RunError: see `Child`.
    """

    _terminate_s = 5.0
    """How long to wait when asked politely to end."""

    def __init__(
        self,
        verb: str,
        directory: Path,
        endpoints: Endpoints,
        arguments: Sequence[str] = (),
        *,
        log: str,
        environment: Mapping[str, str],
        pass_fds: Sequence[int] = (),
    ) -> None:
        with contextlib.ExitStack() as stack:
            lifeline = Lifeline()
            stack.callback(lifeline.close)
            self.link = Link.bind(endpoints.link(verb))
            stack.callback(self.link.close, timeout_s=0.0)
            command = [verb, str(directory), "--link", self.link.endpoint, "--lifeline-fd", str(lifeline.read_fd)]
            self.child = Child(
                [*command, *arguments],
                log=directory / "log" / log,
                pass_fds=(*pass_fds, lifeline.read_fd),
                environment=environment,
            )
            stack.callback(lambda: self.child.close(self._terminate_s))
            self._open = stack.pop_all()

    def close(self) -> None:
        """End the process if it still runs, then let go of it; safe to call twice."""
        self._open.close()


class PrepareProcess(DeepProcess):
    """Prepares the data of a run."""

    def __init__(self, directory: Path, endpoints: Endpoints) -> None:
        super().__init__("prepare", directory, endpoints, log="prepare.log", environment=child_environment())


class TrunkProcess(DeepProcess):
    """Trains a run. It loads what it needs at once, which takes seconds, and waits for its assignment.

    Args:
        directory: of the run.
        endpoints: of the run.
        threads: CPU threads that it starts with.
    """

    _terminate_s = 0.0  # it ignores SIGTERM

    def __init__(self, directory: Path, endpoints: Endpoints, threads: int) -> None:
        environment = TRUNK_MEMORY | child_environment()  # what the user exported for the allocators wins
        set_threads(environment, threads)  # what was exported for threads is in that number, see `place_run`
        self._connection, theirs = make_connection()
        with theirs:
            try:
                super().__init__(
                    "train",
                    directory,
                    endpoints,
                    ["--assignment-fd", str(theirs.fileno())],
                    log="trunk.log",
                    environment=environment,
                    pass_fds=[theirs.fileno()],
                )
            except BaseException:
                self._connection.close()
                raise
        self._open.callback(self._connection.close)

    def assign(self, assignment: Assignment) -> None:
        """Let it begin, once. If it has ended before, `check` says why.

        Raises:
            RunError: the system refuses.
        """
        try:
            with self._connection:
                assignment.send(self._connection)
        except (BrokenPipeError, ConnectionResetError):
            pass
        except OSError as error:
            raise RunError(f"the trunk cannot be told to begin: {error.strerror or error}.") from error

    def check(self) -> None:
        """Raise RunError, or ConfigError, if it has ended, although it waits for its assignment."""
        code = self.child.exit_code()
        if code is not None:
            raise self.child.error(code)
