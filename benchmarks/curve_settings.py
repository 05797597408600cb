"""What one training of a benchmark does."""

from dataclasses import dataclass, replace

from launch.config import DEVICES, DataConfig, RunConfig, TrainConfig, TrunkConfig
from launch.resolve import resolve
from workers.config import HeadConfig
from workers.settings import check, check_choice

RIVAL_NAMES = {
    "dense": "dense BCE in chunks",
    "softmax": "dense softmax in chunks",
    "sampled": "torch sampled",
    "partial": "10% of the classes",
}
STRONGER_NAMES = {"gathered": "torch sampled by hand"}
"""Forms of a rival that few would write; they are not among the default contenders."""
KINDS = ("hybrid", *RIVAL_NAMES)
ALL_KINDS = (*KINDS, *STRONGER_NAMES)
DEFAULT_DRAWS = TrainConfig().positives, HeadConfig().negatives
DRAWS = dict.fromkeys(("sampled", "gathered"), (DEFAULT_DRAWS, (64, 1024)))
"""Positives of an example with negatives of a chunk, among which the search chooses for a rival; the others have no
choice: the hybrid draws what a run draws by default, the dense ones take all tags, Partial FC's recipe is a tenth."""
ROW_LR = dict.fromkeys(ALL_KINDS, 0.03)
"""Where a search begins, and where none has been, see `benchmarks.tuned_rates`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CurveSettings:
    """One contender on one size of vocabulary, with a budget."""

    kind: str
    """One of `ALL_KINDS`."""
    workers: int = 0
    """Worker processes; 0 for the rivals."""
    max_tags: int = 0
    """Keep only so many of the most frequent tags; 0 keeps all."""
    max_items: int = 0
    """Use only so many items; 0 uses all."""
    seconds: float | None = None
    """Budget in seconds of training; exclusive with `epochs`."""
    epochs: float | None = None
    seed: int = 0
    row_lr: float = 0.03
    positives: int = DEFAULT_DRAWS[0]
    negatives: int = DEFAULT_DRAWS[1]
    measurements: int = 5
    """Measurements on the validation items, evenly over the budget, the last one at its end."""
    device: str = "auto"
    """Of the trunk, and of the rivals' matrix."""
    trunk: str = TrunkConfig().factory
    """As in `hybrid train`, as are the next three."""
    dim: int = TrunkConfig().dim
    image_size: int = DataConfig().image_size
    batch_size: int = TrainConfig().batch_size
    chunk_size: int = HeadConfig().chunk_size
    """Examples that share negatives; of the hybrid, also those of a worker's chunk."""
    microbatches: int = TrainConfig().microbatches
    """Parts of the hybrid's batches."""

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, ALL_KINDS)
        check_choice("device", self.device, DEVICES)
        check((self.workers > 0) == (self.kind == "hybrid"), "workers", self.workers, "positive for hybrid, else 0")
        check(
            (self.seconds is None) != (self.epochs is None), "epochs", self.epochs, "given exactly if seconds are not"
        )
        check(self.seconds is None or self.seconds > 0, "seconds", self.seconds, "positive")
        check(self.measurements >= 1, "measurements", self.measurements, "at least 1")

    @property
    def name(self) -> str:
        """The contender's name in tables and plots."""
        if self.kind == "hybrid":
            return f"hybrid, {self.workers} worker{'s' if self.workers > 1 else ''}"
        draws = f", {self.positives} + {self.negatives:,} draws" if self.kind in DRAWS else ""
        return (RIVAL_NAMES | STRONGER_NAMES)[self.kind] + draws

    @property
    def run_config(self) -> RunConfig:
        """As settings of a run: everything that is not named here keeps its default, equally for all contenders.

        Only the hybrid cuts its batches, since only it has somebody to overlap with.
        """
        microbatches = self.microbatches if self.kind == "hybrid" else 1
        minutes = None if self.seconds is None else self.seconds / 60
        return RunConfig(
            data=DataConfig(max_tags=self.max_tags, max_items=self.max_items, image_size=self.image_size),
            trunk=TrunkConfig(device=self.device, factory=self.trunk, dim=self.dim),
            head=HeadConfig(row_lr=self.row_lr, negatives=self.negatives, chunk_size=self.chunk_size),
            train=TrainConfig(
                minutes=minutes,
                epochs=self.epochs,
                seed=self.seed,
                batch_size=self.batch_size,
                microbatches=microbatches,
                positives=self.positives,
            ),
            workers=max(self.workers, 1),
        )

    def with_chunks_of_a_run(self) -> "CurveSettings":
        """The same, with the chunks and negatives that the hybrid has on this device by default."""
        head = default_run(self.device, self.batch_size).head
        return replace(self, chunk_size=head.chunk_size, negatives=head.negatives)


def default_run(device: str, batch_size: int) -> RunConfig:
    """What `hybrid train` does there if it is told nothing else."""
    return resolve(named={"trunk.device": device, "train.batch_size": batch_size})
