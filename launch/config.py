"""The settings of a run: one nested frozen dataclass, composed of what each component owns."""

import math
import re
from dataclasses import dataclass, field

from workers.config import DEFAULT_TRANSPORT, MAX_WORKERS, ROW_FACTORS, TRANSPORTS, HeadConfig
from workers.default_workers import default_num_workers
from workers.settings import check, check_choice, convert_fields, nearest

DEVICES = ("auto", "cpu", "cuda")
_CARD = re.compile(r"cuda:(0|[1-9]\d{0,2})")
"""One of several cards."""
TRUNKS = ("cnn-small", "resnet18")
"""Trunks that are there; `hybrid.trunks` builds them. Here, so that a wrong name is refused before anything starts."""
EMOJI_DESIGNS = ("noto", "fluent-emoji-flat", "twemoji", "openmoji")
"""Artists whose drawings `hybrid.data.emoji` fetches. Here for the same reason."""
PRECISIONS = ("auto", "float32", "bfloat16")
CUDA_GRAPHS = ("auto", "on", "off")
TAG_LOSS_WEIGHTS = ("none", "inverse-frequency")
MAP_BOUNDS = (2, 50)
"""A tag enters mAP if it has at least and at most so many true items among those that are measured."""
DEFAULT_MINUTES = 7.5
"""With data preparation, measurement and gallery, a default run then takes less than ten minutes."""


def check_device_name(name: str, device: str) -> None:
    """Refuse what is no name of a device; whether it is there only torch can tell.

    Args:
        name: of the setting.
        device: its value.

    Raises:
        ConfigError: it is none of `DEVICES`, nor `cuda:N`.
    """
    rule = f"one of {', '.join(DEVICES)}, or one of several cards by its number, as in cuda:1"
    check(device in DEVICES or _CARD.fullmatch(device) is not None, name, device, rule)


def num_parts(num_examples: int, microbatches: int) -> int:
    """Micro-batches that a batch is cut into: fewer where one would have a single example, of which BatchNorm has no
    variance.

    Example:
        >>> num_parts(128, 2), num_parts(3, 2)
        (2, 1)
    """
    return max(1, min(microbatches, num_examples // 2))


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """Which images and tags, and how they are split and stored."""

    source: str = "emoji"
    """`emoji`, or `folder:PATH`."""
    image_size: int = 48
    """Side in pixels of the square that the trunk sees."""
    hold_out_design: str = ""
    """Emoji only: a design that is never trained on, for example `twemoji`."""
    hold_out_fraction: float = 0.2
    """Folders only: share of the items held out for the test, chosen by a hash of their names."""
    min_count: int = 1
    """Tags on fewer training items are dropped."""
    max_tags: int = 0
    """Keep only so many of the most frequent tags; 0 keeps all."""
    max_items: int = 0
    """Use only so many items, chosen by a hash of their names; 0 uses all."""
    cache_dir: str = ""
    """Where prepared data are kept; empty means $HYBRID_CACHE, else ~/.cache/hybrid. Compiled kernels lie in
    $HYBRID_CACHE where that is set, else in the same place."""
    loader_processes: int = -1
    """Decoding processes for sets too large for the decoded cache; -1 chooses by the cores."""

    def __post_init__(self) -> None:
        convert_fields(self, "data")
        check(
            self.source == "emoji" or self.source.startswith("folder:"),
            "data.source",
            self.source,
            "emoji or folder:PATH",
        )
        check(
            self.source != "folder:",
            "data.source",
            self.source,
            "folder:PATH with a path that is not empty (is a variable unset?)",
        )
        if self.hold_out_design:
            check_choice("data.hold_out_design", self.hold_out_design, EMOJI_DESIGNS)
        check(8 <= self.image_size <= 1024, "data.image_size", self.image_size, "between 8 and 1024")
        check(
            0 < self.hold_out_fraction < 1,
            "data.hold_out_fraction",
            self.hold_out_fraction,
            "between 0 and 1, exclusive",
        )
        check(self.min_count >= 1, "data.min_count", self.min_count, "at least 1")
        check(self.max_tags >= 0, "data.max_tags", self.max_tags, "at least 0 (0 keeps all)")
        check(self.max_items >= 0, "data.max_items", self.max_items, "at least 0 (0 uses all)")
        check(self.loader_processes >= -1, "data.loader_processes", self.loader_processes, "at least -1 (-1 chooses)")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrunkConfig:
    """The deep network and where it runs."""

    factory: str = "cnn-small"
    """`cnn-small`, `resnet18`, or `module:factory` called as `factory(dim=..., image_size=...)`."""
    dim: int = 128
    """D: length of the features and of each row of the tag matrix."""
    device: str = "auto"
    """`auto` (CUDA if there is one), `cpu`, `cuda`, or one of several cards: `cuda:1`."""
    threads: int = 0
    """CPU threads of the trunk; 0: what OMP_NUM_THREADS or MKL_NUM_THREADS says, if one is set; else on a CPU whatever
    makes its steps shortest, on a card what workers leave."""
    precision: str = "auto"
    """`auto`, `float32`, or `bfloat16` (autocast)."""
    cuda_graphs: str = "auto"
    """On a card, record the trunk's passes and replay them: `on`, `off`, or `auto` (the trunks named above)."""

    def __post_init__(self) -> None:
        convert_fields(self, "trunk")
        module, _, attribute = self.factory.partition(":")
        known = f"one of {', '.join(TRUNKS)}, or module:factory{nearest(self.factory, TRUNKS)}"
        check(self.factory in TRUNKS or bool(module and attribute), "trunk.factory", self.factory, known)
        check(4 <= self.dim <= 4096 and self.dim % 4 == 0, "trunk.dim", self.dim, "a multiple of 4 between 4 and 4096")
        check_device_name("trunk.device", self.device)
        check(self.threads >= 0, "trunk.threads", self.threads, "at least 0 (0 chooses)")
        check_choice("trunk.precision", self.precision, PRECISIONS)
        check_choice("trunk.cuda_graphs", self.cuda_graphs, CUDA_GRAPHS)
        is_possible = self.cuda_graphs != "on" or self.device != "cpu"
        check(is_possible, "trunk.cuda_graphs", self.cuda_graphs, "auto or off with trunk.device = 'cpu'")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """How long and how to train."""

    batch_size: int = 128
    """Examples per step."""
    microbatches: int = 2
    """M: slices of a batch that are in flight between trunk and workers, or fewer so that none has one example."""
    positives: int = 256
    """P: positives drawn per example and step (all, if it has fewer)."""
    auto_negatives: bool = False
    """Start from `head.negatives` and draw as many as workers can serve while the trunk computes."""
    negatives_target: float = 0.9
    """Share of what hides behind the trunk that workers shall fill, with `auto_negatives`."""
    min_negatives: int = 64
    """Lower bound of `auto_negatives`."""
    max_negatives: int = 16_384
    """Upper bound of `auto_negatives`."""
    epochs: float | None = None
    """Budget in passes over the training items; exclusive with `minutes`."""
    minutes: float | None = None
    """Budget in minutes of training; `DEFAULT_MINUTES` if neither is given."""
    lr: float = 0.002
    """Peak learning rate of the trunk (AdamW)."""
    weight_decay: float = 0.05
    """Decoupled decay of the trunk's matrices and filters; biases, norms and vectors have none."""
    warmup_fraction: float = 0.05
    """Share of the budget over which the learning rates rise."""
    clip_norm: float = 1.0
    """Bound on the L2 norm of the trunk's gradient; 0 means none."""
    augment: bool = True
    """Random shifts, scales, rotations, colours and backgrounds of training images."""
    tag_loss_weight: str = "none"
    """`none`, or `inverse-frequency`: positives are weighted by log(total / count)."""
    seed: int = 0
    """Seed of everything random: initial weights, order, draws, augmentation."""
    checkpoint_minutes: float = 5.0
    """Minutes between checkpoints during a run, at most: they come sooner where they cost next to nothing."""

    def __post_init__(self) -> None:
        convert_fields(self, "train")
        check(self.batch_size >= 1, "train.batch_size", self.batch_size, "at least 1")
        check(self.microbatches >= 1, "train.microbatches", self.microbatches, "at least 1")
        check(self.positives >= 1, "train.positives", self.positives, "at least 1")
        self._check_negatives()
        if self.epochs is None and self.minutes is None:
            object.__setattr__(self, "minutes", DEFAULT_MINUTES)
        check(
            self.epochs is None or self.minutes is None,
            "train.epochs",
            self.epochs,
            "left out when train.minutes is given",
        )
        for name in ("epochs", "minutes", "lr", "checkpoint_minutes"):
            value = getattr(self, name)
            check(value is None or 0 < value < math.inf, f"train.{name}", value, "positive and finite")
        check(0 <= self.weight_decay < math.inf, "train.weight_decay", self.weight_decay, "at least 0 and finite")
        check(0 <= self.warmup_fraction < 1, "train.warmup_fraction", self.warmup_fraction, "at least 0 and below 1")
        check(0 <= self.clip_norm < math.inf, "train.clip_norm", self.clip_norm, "at least 0 (0 means none) and finite")
        check_choice("train.tag_loss_weight", self.tag_loss_weight, TAG_LOSS_WEIGHTS)
        check(0 <= self.seed < 2**63, "train.seed", self.seed, "between 0 and 2**63 - 1")

    def _check_negatives(self) -> None:
        check(0 < self.negatives_target <= 1, "train.negatives_target", self.negatives_target, "above 0 and at most 1")
        check(self.min_negatives >= 1, "train.min_negatives", self.min_negatives, "at least 1")
        check(
            self.max_negatives >= self.min_negatives,
            "train.max_negatives",
            self.max_negatives,
            "at least train.min_negatives",
        )
        check(
            not self.auto_negatives or self.microbatches >= 2,
            "train.microbatches",
            self.microbatches,
            "at least 2 with train.auto_negatives: nothing hides behind the trunk of a single one",
        )
        check(
            not self.auto_negatives or self.parts >= 2,
            "train.batch_size",
            self.batch_size,
            "at least 4 with train.auto_negatives: smaller ones are not cut, so nothing hides behind the trunk",
        )

    @property
    def parts(self) -> int:
        """Micro-batches that a full batch is cut into."""
        return num_parts(self.batch_size, self.microbatches)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """Everything that makes a run; saved, resolved, as `config.toml` in its directory."""

    data: DataConfig = field(default_factory=DataConfig)
    trunk: TrunkConfig = field(default_factory=TrunkConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    workers: int = 0
    """Worker processes at the start, `hybrid scale` changes it while a run goes on; 0: `default_num_workers`, but no
    more than a step has chunks."""
    transport: str = DEFAULT_TRANSPORT
    """How features and gradients pass between trunk and workers: `ring` (shared memory) or `zmq` (sockets)."""
    pin: bool = False
    """Keep the trunk and each worker to cores of their own."""
    profile_steps: int = 0
    """Steps of which a trace is written; 0 writes none."""

    def __post_init__(self) -> None:
        convert_fields(self)
        if self.workers == 0:
            most = default_num_workers(self.trunk.device)
            object.__setattr__(self, "workers", min(most, self.chunks_per_step))
        check(1 <= self.workers <= MAX_WORKERS, "workers", self.workers, f"between 1 and {MAX_WORKERS} (0 chooses)")
        check(0 <= self.profile_steps <= 10_000, "profile_steps", self.profile_steps, "between 0 and 10,000")
        check_choice("transport", self.transport, TRANSPORTS)
        factor, row_dtype = ROW_FACTORS[self.head.row_dtype], self.head.row_dtype
        rule = f"a multiple of {factor} with head.row_dtype = {row_dtype!r}"
        check(self.trunk.dim % factor == 0, "trunk.dim", self.trunk.dim, rule)

    @property
    def chunks_per_step(self) -> int:
        """Chunks of a step, all of which can be in flight at once: of more workers some never have anything to do.

        Example:
            >>> config = RunConfig(train=TrainConfig(batch_size=128, microbatches=2), head=HeadConfig(chunk_size=32))
            >>> config.chunks_per_step
            4
        """
        parts = self.train.parts
        least, num_larger = divmod(self.train.batch_size, parts)
        sizes = [least + 1] * num_larger + [least] * (parts - num_larger)
        return sum(math.ceil(size / self.head.chunk_size) for size in sizes)
