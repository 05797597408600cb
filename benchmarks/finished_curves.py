"""Curves that an earlier, cut short benchmark left behind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.curve_settings import CurveSettings
from benchmarks.machine import blas_of
from benchmarks.record import Record, read_record
from workers.errors import DataError
from workers.settings import from_plain

_SAME_MACHINE = ("cpu", "cores", "memory_gib", "gpu", "system")
_SAME_SOFTWARE = ("commit", "versions")


class FinishedCurves:
    """Results that need not be measured again; taken over into the record that goes on.

    Args:
        record: of the benchmark that goes on; takes the results, and notes when they were measured.
        path: of its JSON file; without one nothing is finished.
        belongs: whether a curve is one of this benchmark's.

    Raises:
        DataError: the file's results were measured by other code, on another machine, or with other settings, so that
            they cannot stand in one table with those to come. The file is left as it is.
    """

    def __init__(self, record: Record, path: Path, belongs: Callable[[CurveSettings], bool]) -> None:
        self._results: dict[CurveSettings, dict[str, Any]] = {}
        if not path.exists():
            return
        earlier = read_record(path)
        _check_same_surroundings(path, earlier, record.content)
        for result in earlier["results"]:
            curve = from_plain(CurveSettings, result["settings"])
            if not belongs(curve):
                raise DataError(
                    f"{path} holds a curve that does not belong here ({curve}). To keep it, give the options of the "
                    "benchmark that was cut short, or another --name; to begin again, leave out --continue."
                )
            self._results[curve] = result
            record.add(result)
        record.content["continues"] = [*earlier.get("continues", ()), earlier["started"]]

    def __len__(self) -> int:
        return len(self._results)

    def get(self, curve: CurveSettings) -> dict[str, Any] | None:
        """The result of a curve with exactly these settings."""
        return self._results.get(curve)


def _check_equal(path: Path, name: str, earlier: object, present: object) -> None:
    if earlier != present:
        raise DataError(
            f"{path} cannot be continued: {name} was {earlier!r}, now it is {present!r}. "
            "Leave out --continue to begin again."
        )


def _check_same_surroundings(path: Path, earlier: dict[str, Any], present: dict[str, Any]) -> None:
    for part, names in (("machine", _SAME_MACHINE), ("software", _SAME_SOFTWARE)):
        for name in names:
            _check_equal(path, name, earlier[part][name], present[part][name])
    _check_equal(path, "BLAS", blas_of(earlier), blas_of(present))
    for which in (earlier, present):
        if which["software"]["commit"] is None or which["software"]["is_modified"]:
            raise DataError(
                f"{path} cannot be continued: the code of {which['started']} is no commit, or differs from it, so "
                "nobody knows whether the same code goes on. Commit first, and leave out --continue to begin again."
            )
