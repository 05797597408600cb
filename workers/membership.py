"""What a trunk needs of whoever starts and ends workers."""

from typing import Protocol


class Membership(Protocol):
    """A `WorkerPool` in the same process, or a link to the process that has one."""

    def poll(self) -> list[str]:
        """Names of the workers that died since the last call.

        Raises:
            WorkerLost: they die again and again; replacing them is hopeless.
        """

    def kill(self, name: str) -> None:
        """End this worker, which does not answer; it may be gone already."""
