"""What a run learned, read from its newest checkpoint: trunk, rows and tags."""

# Shapes: N tags.

from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hybrid.checkpoint import Checkpoint, newest_whole_checkpoint
from hybrid.data.vocabulary import TagVocabulary
from hybrid.device import choose_device, choose_precision
from hybrid.features import FeatureMaker
from hybrid.rundir import RunDirectory
from hybrid.score_bias import score_bias_N
from hybrid.temperature import load_temperature
from hybrid.trunks import build_trunk
from launch.run_settings import moved_to
from workers.errors import MatrixMismatch
from workers.matrix_io import SavedMatrix, open_rows
from workers.tag_weights import inverse_frequency_weights


class LoadedModel:
    """The base of `LoadedRun`, which asks it; parts are loaded when they are first used."""

    def __init__(self, directory: RunDirectory, device: str | None = None, data: str | None = None) -> None:
        self.directory = directory
        self.config = moved_to(directory.config(), data)
        if device is not None:
            self.device = choose_device(device)
        checkpoint = newest_whole_checkpoint(directory.checkpoints)
        if checkpoint is None:
            raise directory.without_checkpoint(self.config.train.checkpoint_minutes)
        self.checkpoint: Checkpoint = checkpoint
        self.rows: SavedMatrix = open_rows(checkpoint.matrix_folder)
        self._trunk_tensors = checkpoint.trunk_tensors()  # now: a run that goes on removes old checkpoints

    @cached_property
    def device(self) -> torch.device:
        """Where the trunk computes; a run that was kept off a card is not asked on it."""
        return choose_device("cpu" if self.config.trunk.device == "cpu" else "auto")

    @cached_property
    def precision(self) -> torch.dtype:
        """Of the trunk on `device`."""
        return choose_precision(self.config.trunk.precision, self.device)

    @cached_property
    def vocabulary(self) -> TagVocabulary:
        """Tags by id."""
        vocabulary = TagVocabulary.load(self.directory.vocabulary)
        if len(vocabulary) != self.rows.num_tags:
            sizes = f"{len(vocabulary):,} tags, but {self.rows.folder} has {self.rows.num_tags:,} rows"
            raise MatrixMismatch(f"{self.directory.vocabulary} holds {sizes}: they are of different runs.")
        return vocabulary

    @cached_property
    def trunk(self) -> nn.Module:
        """The trunk with its trained weights, in evaluation mode on `device`."""
        trunk = build_trunk(self.config.trunk, self.config.data.image_size)
        self.checkpoint.load_trunk(trunk, self._trunk_tensors)
        return trunk.to(self.device).eval()

    @cached_property
    def features(self) -> FeatureMaker:
        """What makes features of pictures with the trunk."""
        data = self.config.data
        return FeatureMaker(self.trunk, data.image_size, self.device, self.precision, data.loader_processes)

    @property
    def temperature(self) -> float:
        """What features are divided by to rank tags by probability, see `hybrid.temperature`."""
        return load_temperature(self.directory.temperature_file, self.checkpoint.step)

    def score_bias_N(self, score: str = "probability") -> NDArray[np.float32]:
        """What is added to `row . features` to rank tags by log p(tag | image), or by the bare score (`lift`)."""
        weight_N = None
        if self.config.train.tag_loss_weight == "inverse-frequency":
            weight_N = inverse_frequency_weights(self.rows.counts_N, self.directory.num_train())
        return score_bias_N(self.rows, self.config.head, score, weight_N)
