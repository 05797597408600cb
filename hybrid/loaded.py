"""A finished or running run, loaded for use: search, annotation, neighbours."""

# Shapes: N tags, D dim, B images.

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hybrid.data.cache import ProgressCallback
from hybrid.data.images import BadImage, decode_square
from hybrid.data.prepare import silent, stored_size
from hybrid.data.view import View
from hybrid.features import batch_size_of
from hybrid.image_index import ImageIndex
from hybrid.learned_data import prepare_learned
from hybrid.learned_view import LearnedView, learned_view
from hybrid.loaded_model import LoadedModel
from hybrid.measured import NotStored, save_measured
from hybrid.neighbours import ScoredTag, nearest_tags
from hybrid.query import suggest
from hybrid.ranking import Ranker
from hybrid.ready_index import log_beginning, ready_index
from hybrid.rundir import OtherData, open_run
from hybrid.search import SearchResult, search
from hybrid.split_tables import index_pictures, measure_splits, tested_items
from launch.config import MAP_BOUNDS
from workers.errors import DataError, RunError, UnreadableFile

logger = logging.getLogger(__name__)


def load(run: str | Path = "last", device: str | None = None, data: str | None = None) -> "LoadedRun":
    """A run by its directory, by its name under `runs/`, or the one started last.

    Args:
        run: the run.
        device: where the trunk computes, `auto`, `cpu`, `cuda` or `cuda:N`, wherever it was trained; None means the CPU
            for a run that was told to train there, and `auto` for any other.
        data: `folder:PATH` says where the run's folder of pictures is now, if it was moved or copied.

    Raises:
        RunError: there is no such run, or it has no whole checkpoint yet.
        ConfigError: there is no such device, or `data` are given that cannot be the run's.

    Example:
        run = hybrid.load("last")
        for hit in run.search("fruit").hits:
            print(hit.title, hit.score)
        for found in run.annotate("photo.jpg", k=5):
            print(found.tag, found.score)
    """
    return LoadedRun(open_run(run), device, data)


class LoadedRun(LoadedModel):
    """What a run learnt, at its newest checkpoint; parts are loaded when they are first used."""

    def __repr__(self) -> str:
        name, step = self.directory.path.name, self.checkpoint.step
        return f"LoadedRun({name!r}, step={step}, num_tags={self.rows.num_tags}, dim={self.rows.dim})"

    @cached_property
    def view(self) -> View:
        """The data set; prepared again if its cache is gone.

        Raises:
            OtherData: it does not hold what the run learned any more.
            RunError: its folder is not there.
        """
        return prepare_learned(self.directory, self.config.data)

    @cached_property
    def learned(self) -> LearnedView:
        """The data set as the run learned it, whose pictures `search` looks through: as `view`, or as it was prepared.

        Raises:
            RunError: it has changed, and what was prepared of it is gone; or the folder is not there.
        """
        try:
            if "view" not in self.__dict__:
                self.__dict__["view"] = prepare_learned(self.directory, self.config.data, is_hurried=True)
            return LearnedView(self.view)
        except OtherData as e:
            return learned_view(self.directory, self.config.data, e)

    @cached_property
    def index(self) -> ImageIndex:
        """The held-out images that are there, with their features; made first where the run has none that fits.

        Raises:
            RunError: see `learned`; or the index is of other data; or none of its pictures is there any more.
            DataError: no held-out picture can be read.
        """
        return self._ready_index(log_beginning)

    def _ready_index(self, progress: ProgressCallback) -> ImageIndex:
        view, step = self.learned.view, self.checkpoint.step
        index = ready_index(
            self.directory,
            lambda tell: index_pictures(self.features, view, self.rows.dim, step, tell),
            fingerprints=(view.content, view.fingerprint),
            step=step,
            num_pictures=len(tested_items(view)),
            progress=progress,
            is_to_last=not self.learned.remark or view.images.is_decoded,
        )
        return self.learned.there(index)

    def evaluate(
        self,
        score: str = "probability",
        map_bounds: tuple[int, int] = MAP_BOUNDS,
        progress: ProgressCallback = silent,
    ) -> dict[str, dict[str, Any]]:
        """Measure the held-out splits anew; the run's results and its index of pictures are replaced.

        Where training has gone on meanwhile, to a newer checkpoint, they stay as they are, and a warning is logged.

        Args:
            score: what ranks the tags of a picture, `probability` or `lift`.
            map_bounds: a tag enters mAP if it has so many true pictures in the split, inclusive.
            progress: told what is going on, how much is done, of how much.

        Returns:
            What `hybrid.evaluation.evaluate` returns, and `score`, by name of the split: `valid`, `test`, further sets.

        Raises:
            DataError: no held-out picture can be read.
            NotStored: the run cannot be written, or not be read any more; it carries the tables.
        """
        tables, index = measure_splits(
            self.features,
            self.rows,
            self.score_bias_N(score),
            self.view,
            score=score,
            step=self.checkpoint.step,
            map_bounds=map_bounds,
            progress=progress,
        )
        if not tables:
            source = self.config.data.source
            raise DataError(f"{source}: no held-out picture can be read, so there is nothing to measure.")
        self._store(tables, index)
        return tables

    def _store(self, tables: dict[str, dict[str, Any]], index: ImageIndex) -> None:
        step = self.checkpoint.step
        try:
            is_stored = save_measured(self.directory, tables, index, step)
        except (RunError, UnreadableFile) as e:
            raise NotStored(f"measured, but not stored in the run: {e}", tables) from e
        if not is_stored:
            path = self.directory.path
            logger.warning("%s has a newer checkpoint than step %d, which was measured: nothing is stored.", path, step)
        elif len(index.items_I):
            self.__dict__["index"] = index

    def search(
        self, text: str, k: int = 10, progress: ProgressCallback | None = None, *, variants: bool = False
    ) -> SearchResult:
        """The k held-out images that fit the words best.

        Of data that have changed since the run learned them, those that are still there, as `SearchResult.remark` says.

        Args:
            text: a tag, or several with commas between them, or words.
            k: images wanted.
            progress: told, as by `evaluate`, of an index that has to be made first; None logs that it is.
            variants: whether an emoji's skin tones and genders count as images of their own.

        Raises:
            DataError: there is no word in the text, or see `index`.
            RunError: see `index`.
        """
        if progress is not None and "index" not in self.__dict__:
            self.__dict__["index"] = self._ready_index(progress)
        result = search(text, k, pictures=self.learned.view, index=self.index, rows=self.rows, with_variants=variants)
        learned = self.learned
        return replace(result, remark=learned.remark, purpose=learned.purpose, remedy=learned.remedy)

    def annotate(self, image: str | Path, k: int = 10, score: str = "probability") -> list[ScoredTag]:
        """The k best tags of one image file.

        Args:
            image: any picture file that training could read.
            k: tags wanted.
            score: `probability`, or `lift`, which favours rare tags.

        Raises:
            DataError: the file is missing or is no picture that can be decoded; says why.
        """
        return self.annotate_all([image], k, score)[0]

    def annotate_all(
        self, images: Sequence[str | Path], k: int = 10, score: str = "probability"
    ) -> list[list[ScoredTag]]:
        """The k best tags of each image file; one pass over the tag matrix for all of them.

        Raises:
            DataError: see `annotate`; about the first file that cannot be used.
        """
        return self.annotate_pictures([self.read_picture(image) for image in images], k, score)

    def read_picture(self, image: str | Path) -> NDArray[np.uint8]:
        """An image file as `annotate_pictures` takes it; raises DataError as `annotate` does."""
        return read_picture(Path(image), stored_size(self.config.data.image_size))

    def annotate_pictures(
        self, pictures: Sequence[NDArray[np.uint8]], k: int = 10, score: str = "probability"
    ) -> list[list[ScoredTag]]:
        """The k best tags of each picture that `read_picture` read."""
        if not pictures:
            return []
        batch_size = batch_size_of(len(pictures[0]))
        parts = (pictures[i : i + batch_size] for i in range(0, len(pictures), batch_size))
        features = torch.cat([self.features.of_pictures(torch.from_numpy(np.stack(part))) for part in parts])
        if score == "probability":
            features = features / self.temperature
        ids_Bk, scores_Bk = Ranker(self.rows, self.score_bias_N(score), self.device).topk(features, k)
        return [self._scored(ids, scores) for ids, scores in zip(ids_Bk.tolist(), scores_Bk.tolist(), strict=True)]

    def neighbours(self, tag: str, k: int = 10) -> list[ScoredTag]:
        """The k tags whose rows point most nearly the same way as the tag's, by cosine.

        Raises:
            DataError: the tag is not known; suggests some that are.
        """
        tag_id = self.vocabulary.id_of(tag)
        if tag_id is None:
            similar = ", ".join(repr(other) for other in suggest(tag, self.vocabulary))
            raise DataError(f"{tag!r} is no tag of this run." + (f" Did you mean {similar}?" if similar else ""))
        ids, cosines = nearest_tags(self.rows, self.vocabulary.counts, tag_id, k)
        return self._scored(ids.tolist(), cosines.tolist())

    def _scored(self, ids: Sequence[int], scores: Sequence[float]) -> list[ScoredTag]:
        tags, counts = self.vocabulary.tags, self.vocabulary.counts
        return [ScoredTag(tags[t], t, s, int(counts[t])) for t, s in zip(ids, scores, strict=True) if t >= 0]


def read_picture(path: Path, size: int) -> NDArray[np.uint8]:
    """A picture file as uint8 `[size, size, 3]`.

    Raises:
        DataError: names the file and says why it cannot be used.
    """
    try:
        return decode_square(path, size)
    except BadImage as e:
        raise DataError(f"{path} cannot be annotated: {e}.") from e
    except OSError as e:
        raise DataError(f"{path} cannot be read: {e.strerror or e}.") from e
