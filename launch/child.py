"""A process of the deep side, started by the launcher with a log of its own."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from launch.runs import as_run_error
from workers.environment import OUTPUT_IN_UTF8
from workers.errors import ConfigError, HybridError, RunError
from workers.refused_write import free_bytes, size_text

TRUNK_COMMAND: tuple[str, ...] = (sys.executable, "-P", "-m", "hybrid")
"""Starts a verb of the deep side, which the launcher itself never imports. `-P`: what happens to lie in the working
directory, a folder called `hybrid` or a file called `queue.py`, is not taken for it, nor for a module of Python's."""

TRUNK_MEMORY = {
    "THP_MEM_ALLOC_ENABLE": "1",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 28),
    "MALLOC_TRIM_THRESHOLD_": str((1 << 31) - 1),
}
"""For torch's and glibc's allocators, who read it when a process starts: what a step frees is kept for the next, and
large arrays lie on huge pages. Otherwise each step's are mapped, faulted in page by page, and unmapped again."""
_TAIL_BYTES = 16 << 10
_NEWS = re.compile(r"[\d-]+ [\d:,]+ INFO ")
"""The start of a log line that is only information."""
_ERROR = "Error: "
"""The start of the last message of a process that ends with a known error."""
_TRACEBACK = "Traceback (most recent call last)"
WRONG_SETTING_STATUS = 2
"""Exit status of a process that refuses a setting, as of `hybrid` itself."""
_LITTLE_BYTES = 64 << 10
"""Less room than the last words of a process may need."""
_TERMINATE_S = 5.0
_REAP_S = 10.0


class Child:
    """One started process, leader of a group: signals of the terminal do not reach it, its children die with it.

    Raises:
        RunError: its log cannot be written, or the system cannot start it (no memory, too many processes).
    """

    _is_killed = False
    """Whether it was we who killed it."""

    def __init__(
        self, arguments: Sequence[str], *, log: Path, pass_fds: Sequence[int], environment: Mapping[str, str]
    ) -> None:
        self.log = log
        with as_run_error(log):
            log.parent.mkdir(parents=True, exist_ok=True)
            self._log_start = log.stat().st_size if log.exists() else 0
            file = log.open("ab")
        try:
            with file:
                self._process = subprocess.Popen(
                    [*TRUNK_COMMAND, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    pass_fds=pass_fds,
                    env={**environment, **OUTPUT_IN_UTF8},
                    process_group=0,
                )
        except OSError as error:
            raise RunError(f"{log.stem} cannot be started: {error.strerror or error}.") from error
        self.pid = self._process.pid

    def exit_code(self) -> int | None:
        """None while it runs; minus the signal's number if one ended it."""
        return self._process.poll()

    def close(self, terminate_s: float = _TERMINATE_S) -> None:
        """End it if it still runs, politely for `terminate_s`, then the whole group by force; safe to call twice."""
        if self._process.poll() is None:
            if terminate_s > 0:
                self._signal(signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(terminate_s)
            self._is_killed = True
            self._signal(signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):  # unkillable: in the kernel, on a dead disk
                self._process.wait(_REAP_S)
        else:
            self._signal(signal.SIGKILL)  # decoding processes that outlived their parent

    def log_tail(self, lines: int = 20) -> str:
        """The last lines that this process, not an earlier one, wrote to its log: from an error on, if it names one.

        What is only news is left out.
        """
        with contextlib.suppress(OSError), self.log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(self._log_start, size - _TAIL_BYTES))
            written = file.read().decode(errors="replace").rstrip().splitlines()
            told = [line for line in written if not _NEWS.match(line)]
            errors = [i for i, line in enumerate(told) if line.startswith(_ERROR)]
            return "\n".join(told[errors[-1] :] if errors else told[-lines:])
        return ""

    def failure(self, code: int) -> str:
        """How it ended and what it said, for whoever started the run; where it said what was wrong, that alone."""
        tail = self.log_tail()
        if _is_plain_error(code, tail):
            return tail.removeprefix(_ERROR)
        said = f"\n\n{'It said' if code > 0 else 'The end of its log'}:\n\n{tail}\n" if tail else ""
        reason = exit_reason(code, is_ours=self._is_killed)
        return f"{self.log.stem} {reason}.{said}\nThe whole log: {self.log}{_remark_if_full(self.log)}"

    def error(self, code: int) -> HybridError:
        """`failure` as an error of the launcher's own: a ConfigError where it said that it refuses a setting."""
        is_refusal = code == WRONG_SETTING_STATUS and _is_plain_error(code, self.log_tail())
        return (ConfigError if is_refusal else RunError)(self.failure(code))

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


def _remark_if_full(log: Path) -> str:
    """Where there is no room, that may be why a process ended, and the log may lack what it said of it."""
    free = free_bytes(log)
    if free is None or free >= _LITTLE_BYTES:
        return ""
    return (
        f"\nThe disk of {log.parent} is full ({size_text(free)} free), which may be why, and the log may lack what was "
        "said of it: make room there."
    )


def _is_plain_error(code: int, tail: str) -> bool:
    """Whether what a process said last is one of our own errors, which say by themselves what went wrong."""
    return code > 0 and tail.startswith(_ERROR) and _TRACEBACK not in tail


def exit_reason(code: int, *, is_ours: bool = False) -> str:
    """How a process ended, in words.

    Args:
        code: exit status, or minus the number of the signal that ended it.
        is_ours: whether that signal was ours.
    """
    if code >= 0:
        return f"ended with exit status {code}"
    if code == -signal.SIGKILL and not is_ours:
        return "was killed by SIGKILL, not by us: the kernel's out-of-memory killer may have done it (dmesg tells)"
    with contextlib.suppress(ValueError):
        return f"was killed by {signal.Signals(-code).name}"
    return f"was killed by signal {-code}"
