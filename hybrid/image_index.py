"""The images that a run's search looks through, with their features on disk."""

# Shapes: I images, D dim.

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hybrid.whole_folder import where_whole, whole_folder
from workers.disk import sync
from workers.errors import RunError
from workers.refused_write import refused_write


@dataclass(frozen=True, slots=True)
class ImageIndex:
    """Features of chosen items of a data set."""

    items_I: NDArray[np.int64]
    """Numbers of the items in the data set."""
    features_ID: NDArray[np.float32]
    """The trunk's output for each of them."""
    fingerprint: str
    """Content of the data set, or in indexes of earlier versions the view's fingerprint: item numbers mean nothing in
    another."""
    step: int
    """Of the training, when its trunk made these features: rows of another step do not go with them."""

    def save(self, folder: Path) -> None:
        """Write `items.npy`, `features.npy` and `index.json` into a folder that appears whole or not at all.

        Raises:
            RunError: it cannot be written; an index that was there before still is.
        """
        wanted = self.items_I.nbytes + self.features_ID.nbytes
        try:
            with whole_folder(folder) as fresh:
                np.save(fresh / "items.npy", np.asarray(self.items_I, np.int64))
                np.save(fresh / "features.npy", np.asarray(self.features_ID, np.float32))
                about = {"fingerprint": self.fingerprint, "step": self.step}
                (fresh / "index.json").write_text(json.dumps(about) + "\n")
                for written in fresh.iterdir():
                    sync(written)
        except OSError as e:
            raise RunError(f"cannot write the index of images {folder}: {refused_write(e, folder, wanted)}.") from e

    @classmethod
    def load(cls, folder: Path) -> "ImageIndex":
        """Map an index into memory.

        Raises:
            RunError: it is missing, unfinished or damaged.
        """
        advice = "It is made at the end of training, by the first search after, or by `hybrid evaluate`."
        folder = where_whole(folder)
        if not (folder / "index.json").exists():
            raise RunError(f"there is no index of images in {folder} yet. {advice}")
        try:
            about = json.loads((folder / "index.json").read_text())
            fingerprint, step = about["fingerprint"], about["step"]
            items_I = np.load(folder / "items.npy", allow_pickle=False)
            features_ID = np.load(folder / "features.npy", mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, KeyError, TypeError, EOFError) as e:
            raise RunError(f"no usable index of images in {folder}: {e}. {advice}") from e
        if features_ID.ndim != 2 or len(features_ID) != len(items_I) or features_ID.dtype != np.float32:
            raise RunError(f"{folder}: features {features_ID.shape} {features_ID.dtype} for {len(items_I)} items.")
        return cls(items_I, features_ID, fingerprint, step)
