"""A run's directory: where each of its files lies."""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.config import RunConfig
from launch.run_settings import CONFIG_FILE, keep_proposed, keep_source, launched_config, read_config
from launch.runs import (
    CHECKPOINTS,
    GALLERY_FILE,
    METRICS_FILE,
    PREPARED_FILE,
    RESULTS_FILE,
    find_run,
    is_alive,
)
from workers.disk import write_whole
from workers.errors import RunError
from workers.json_text import to_json
from workers.unreadable import unreadable


class OtherData(RunError):
    """The data of a run are not those that it learned, or perhaps not."""

    def __init__(self, message: str, changes: str = "") -> None:
        super().__init__(message)
        self.changes = changes
        """What has changed, for people; empty if that is not known yet."""


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """The files of one run; reading them raises RunError where they are missing or damaged."""

    path: Path

    @property
    def config_file(self) -> Path:
        """Resolved settings with which the run learned, TOML."""
        return self.path / CONFIG_FILE

    @property
    def vocabulary(self) -> Path:
        """The tags by id with their training counts, in the format of `TagVocabulary`."""
        return self.path / "vocabulary.tsv"

    @property
    def metrics_file(self) -> Path:
        """Numbers over time, a JSON object per line."""
        return self.path / METRICS_FILE

    @property
    def tensorboard(self) -> Path:
        """TensorBoard events."""
        return self.path / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        return self.path / CHECKPOINTS

    @property
    def index(self) -> Path:
        """Features of the images that `search` looks through."""
        return self.path / "index"

    @property
    def results_file(self) -> Path:
        """The last evaluation's tables by name of the split, JSON."""
        return self.path / RESULTS_FILE

    @property
    def evaluation_lock(self) -> Path:
        """Locked while results, temperature and index are replaced: by one process at a time."""
        return self.path / ".evaluation.lock"

    @property
    def gallery(self) -> Path:
        return self.path / GALLERY_FILE

    @property
    def temperature_file(self) -> Path:
        """What `row . features` is divided by when tags are ranked by probability."""
        return self.path / "temperature.json"

    @property
    def example_image(self) -> Path:
        """A held-out picture to try `annotate` on."""
        return self.path / "example.png"

    @property
    def prepared_file(self) -> Path:
        """What the launcher must know of the data, JSON."""
        return self.path / PREPARED_FILE

    def fresh_run_command(self, source: str) -> str:
        """The command that learns data as they are, with all other settings of this run."""
        return f"hybrid train --config {shlex.quote(str(self.config_file))}{self.data_option(source)}"

    def data_option(self, source: str) -> str:
        """What a command must say of data that may not be where the run's settings have them."""
        return "" if source == self.config().data.source else f" --data {shlex.quote(source)}"

    def without_checkpoint(self, checkpoint_minutes: float) -> RunError:
        """Why the run cannot be asked yet: its launcher is at work, or was ended before anything was saved.

        Args:
            checkpoint_minutes: after which its first checkpoint is due at the latest.
        """
        run = shlex.quote(str(self.path))
        if is_alive(self.path):
            return RunError(
                f"{self.path} is still training and has no checkpoint yet. Its first one comes soon, at the latest "
                f"{checkpoint_minutes:g} minutes after the first step: ask again then. `hybrid status {run}` says how "
                "far it is."
            )
        return RunError(f"{self.path} has no whole checkpoint yet. Train on: hybrid train --resume {run}")

    def num_train(self) -> int:
        """Items that the run learns from, as they were counted when its data were prepared.

        Raises:
            RunError: nothing tells.
        """
        told = self.prepared("num_train") or ""
        if not told.isdecimal():
            advice = f"It is written by: hybrid train --resume {shlex.quote(str(self.path))}"
            raise RunError(f"{self.prepared_file} does not say how many items the run learns from. {advice}")
        return int(told)

    def prepared(self, key: str) -> str | None:
        """What `prepared.json` says of the data that the run learned; None where it is not there, or does not say it.

        Raises:
            RunError: it is damaged.
        """
        try:
            told = json.loads(self.prepared_file.read_bytes())
        except OSError as e:
            if (error := unreadable(self.prepared_file, e)) is None:
                return None
            raise error from e
        except ValueError as e:
            raise self._damaged_preparation(str(e)) from e
        if not isinstance(told, dict):
            raise self._damaged_preparation(f"it holds a {type(told).__name__}, expected a table")
        return str(told[key]) if key in told else None

    def _damaged_preparation(self, why: str) -> RunError:
        return RunError(
            f"{self.prepared_file} is damaged ({why}). It says which data the run learned. Put it back from a copy; "
            "or, if you know that the data have not changed since, remove it: it is written anew by "
            f"hybrid train --resume {shlex.quote(str(self.path))}"
        )

    def config(self) -> RunConfig:
        """The run's resolved settings."""
        return read_config(self.path)

    def launched_config(self) -> RunConfig:
        """The settings of the launch that this process belongs to, which a resume may have been given anew."""
        return launched_config(self.path)

    def keep_source(self, source: str) -> None:
        """The data that the run learned are at another place now."""
        keep_source(self.path, source)

    def keep_settings(self) -> None:
        """This launch has made a step: its settings are the run's from here on, before anything is saved."""
        keep_proposed(self.path)

    def results(self) -> dict[str, Any]:
        """Tables of the last evaluation by split; empty before the first."""
        try:
            tables = json.loads(self.results_file.read_text())
            if not isinstance(tables, dict):
                raise ValueError(f"a {type(tables).__name__}, expected an object of tables by split")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as e:
            raise RunError(f"{self.results_file} cannot be read: {e}. Make it anew: hybrid evaluate {self.path}") from e
        return tables

    def write_results(self, tables: dict[str, Any]) -> None:
        """Add or replace tables by split; of a file that cannot be read nothing is kept."""
        try:
            known = self.results()
        except RunError:
            known = {}
        write_whole(self.results_file, to_json(known | tables, indent=1) + "\n")


def open_run(name: str | Path) -> RunDirectory:
    """The run at a path, under `runs/`, or `last`: the one started last of those with a checkpoint.

    Raises:
        RunError: there is none; suggests the nearest name.
    """
    return RunDirectory(find_run(str(name), is_trained=True))
