"""The named options of `hybrid train`, each the short form of one setting."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from launch.config import CUDA_GRAPHS, TAG_LOSS_WEIGHTS, RunConfig
from launch.device_argument import DEVICE
from launch.resolve import flatten
from workers.config import OBJECTIVES, ROW_FACTORS, ROW_OPTIMIZERS, TRANSPORTS
from workers.settings import to_plain

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class TrainOption:
    """A flag of the command line and the setting that it means."""

    flag: str
    key: str
    type: Any
    help: str

    @property
    def parameter(self) -> str:
        """The name under which click passes it."""
        return self.flag.removeprefix("--").replace("-", "_")


class NumberOrAuto(click.ParamType):
    """A whole number, or the word `auto`."""

    name = "INTEGER|auto"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """As it must be written; click would show it in capitals."""
        return self.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """`auto` as it is, anything else as a number; a usage error otherwise."""
        if value == AUTO or isinstance(value, int):
            return value
        try:
            return int(value)
        except ValueError:
            self.fail(f"{value!r} is neither a whole number nor {AUTO!r}.", param, ctx)


OPTIONS = (
    TrainOption("--data", "data.source", str, "emoji, or folder:PATH with images and their tags."),
    TrainOption("--image-size", "data.image_size", int, "Side in pixels of the images that the trunk sees."),
    TrainOption("--hold-out-design", "data.hold_out_design", str, "Emoji: never train on this design, test on it."),
    TrainOption("--hold-out", "data.hold_out_fraction", float, "Folders: share of the images kept for the test."),
    TrainOption("--min-count", "data.min_count", int, "Drop tags that occur on fewer training images."),
    TrainOption("--max-tags", "data.max_tags", int, "Keep this many of the most frequent tags; 0 keeps all."),
    TrainOption("--max-items", "data.max_items", int, "Use only this many images; 0 uses all."),
    TrainOption(
        "--cache-dir",
        "data.cache_dir",
        str,
        "Where prepared data are kept; otherwise $HYBRID_CACHE or ~/.cache/hybrid. Kernels, too, unless that is set.",
    ),
    TrainOption(
        "--workers",
        "workers",
        int,
        "Worker processes; 0 chooses by the number of cores. `hybrid scale` changes it during the run.",
    ),
    TrainOption(
        "--profile-steps", "profile_steps", int, "Trace this many steps into trace.json; 0 traces none. See --profile."
    ),
    TrainOption(
        "--transport",
        "transport",
        click.Choice(TRANSPORTS),
        "How arrays pass between trunk and workers: through shared memory, or all over ZeroMQ.",
    ),
    TrainOption("--dim", "trunk.dim", int, "Length of the features and of each row."),
    TrainOption("--trunk", "trunk.factory", str, "cnn-small, resnet18, or module:factory."),
    TrainOption(
        "--trunk-threads",
        "trunk.threads",
        int,
        "CPU threads of the trunk; 0: what OMP_NUM_THREADS says; if it is not set, on a CPU whatever is fastest.",
    ),
    TrainOption("--device", "trunk.device", DEVICE, "Where the trunk computes; auto: on a card if there is one."),
    TrainOption(
        "--cuda-graphs",
        "trunk.cuda_graphs",
        click.Choice(CUDA_GRAPHS),
        "On a card, record the trunk's passes and replay them; auto: our own trunks.",
    ),
    TrainOption("--batch-size", "train.batch_size", int, "Examples per step."),
    TrainOption("--microbatches", "train.microbatches", int, "Slices of a batch in flight between trunk and workers."),
    TrainOption("--positives", "train.positives", int, "True tags drawn per example and step."),
    TrainOption(
        "--negatives",
        "head.negatives",
        NumberOrAuto(),
        "Negatives drawn per chunk (per example if private), on a card 2048 by default, in chunks half as large; auto: "
        "as many as workers serve while the trunk computes.",
    ),
    TrainOption("--negative-weight", "head.negative_weight", float, "Weight of the negatives in negative sampling."),
    TrainOption("--alpha", "head.alpha", float, "Negatives are drawn in proportion to count ** alpha."),
    TrainOption("--objective", "head.objective", click.Choice(OBJECTIVES), "What the head minimises."),
    TrainOption("--row-optimizer", "head.row_optimizer", click.Choice(ROW_OPTIMIZERS), "How rows are updated."),
    TrainOption("--row-lr", "head.row_lr", float, "Peak learning rate of the rows."),
    TrainOption("--row-dtype", "head.row_dtype", click.Choice(list(ROW_FACTORS)), "Form of the rows in memory."),
    TrainOption("--row-decay", "head.weight_decay", float, "Decoupled weight decay of rows, when they are written."),
    TrainOption("--max-norm", "head.max_norm", float, "Bound on each row's L2 norm; 0 means none."),
    TrainOption(
        "--tag-loss-weight", "train.tag_loss_weight", click.Choice(TAG_LOSS_WEIGHTS), "Weight of each tag's positives."
    ),
    TrainOption("--lr", "train.lr", float, "Peak learning rate of the trunk."),
    TrainOption("--epochs", "train.epochs", float, "Budget in passes over the training images; not with --minutes."),
    TrainOption("--minutes", "train.minutes", float, "Budget in minutes of training; not with --epochs."),
    TrainOption("--seed", "train.seed", int, "Seed of everything random."),
)


def train_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a command with all of `OPTIONS`; what is not given is passed as None."""
    return options_of(OPTIONS)(command)


def options_of(options: Sequence[TrainOption]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator like `train_options`, with these options alone."""
    defaults = flatten(to_plain(RunConfig()))

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            default = defaults.get(option.key, "")
            shown = f" [default: {default}]" if default != "" else ""
            command = click.option(option.flag, type=option.type, default=None, help=option.help + shown)(command)
        return command

    return decorate


def given_settings(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys of the options that were given; a number of negatives also ends what `auto` in a file asked for."""
    settings = {o.key: parameters[o.parameter] for o in OPTIONS if parameters.get(o.parameter) is not None}
    if (negatives := settings.get("head.negatives")) is not None:
        settings["train.auto_negatives"] = negatives == AUTO
        if negatives == AUTO:
            del settings["head.negatives"]
    return settings
