"""The verbs that ask a trained model: `evaluate`, `annotate`, `search`, `neighbours`."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from launch.config import MAP_BOUNDS
from launch.deep_verb import run_deep_verb
from launch.device_argument import DEVICE
from launch.folder_argument import MOVED_DATA
from launch.resolve import read_toml
from launch.run_argument import TRAINED_RUN
from launch.run_settings import CONFIG_FILE
from workers.cache_root import inherit_cache_root
from workers.config import SCORES
from workers.errors import ConfigError

_MOST = 10_000
"""Answers to one question: a table of more takes minutes to print."""

_SCORE = click.option(
    "--score",
    type=click.Choice(SCORES),
    default=SCORES[0],
    show_default=True,
    help="Order tags by probability, or by how much likelier than chance they are, which favours rare tags. The score "
    "itself ranks the tags of one picture, and is no probability.",
)
_DEVICE = click.option(
    "--device",
    type=DEVICE,
    help="Where the trunk computes; otherwise on a card if there is one, unless the run was told to train on the CPU.",
)


class _SheetFile(click.Path):
    """A file to write whose name says its kind: a mistaken name must not replace a file of another one."""

    def __init__(self, *suffixes: str) -> None:
        super().__init__(dir_okay=False)
        self._suffixes = suffixes

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if Path(value).suffix.lower() not in self._suffixes:
            self.fail(f"{value!r} does not end in {' or '.join(self._suffixes)}.", param, ctx)
        return super().convert(value, param, ctx)


@click.command(
    epilog="\b\nExamples:\n  hybrid evaluate last\n  hybrid evaluate last --map-least 5 --map-most 1000 --json"
)
@click.argument("directory", type=TRAINED_RUN, metavar="RUN")
@_SCORE
@click.option(
    "--map-least",
    type=click.IntRange(1),
    default=MAP_BOUNDS[0],
    show_default=True,
    help="mAP counts tags with at least so many images.",
)
@click.option(
    "--map-most",
    type=click.IntRange(1),
    default=MAP_BOUNDS[1],
    show_default=True,
    help="mAP counts tags with at most so many images.",
)
@_DEVICE
@MOVED_DATA
@click.option("--json", "json_output", is_flag=True, help="Print one JSON object.")
def evaluate(
    directory: Path,
    score: str,
    map_least: int,
    map_most: int,
    device: str | None,
    data: str | None,
    json_output: bool,
) -> None:
    """Measure a run's last checkpoint on the held-out images, beside popularity."""
    if map_least > map_most:
        raise click.UsageError(f"--map-least {map_least} is more than --map-most {map_most}: no tag would count.")
    options = {"--score": score, "--map-least": map_least, "--map-most": map_most, "--device": device, "--data": data}
    _ask("evaluate", directory, [], options, json_output=json_output)


@click.command(
    epilog="\b\nExamples:\n  hybrid annotate last photo.jpg\n  hybrid annotate last -k 20 a.png b.png --json"
)
@click.argument("directory", type=TRAINED_RUN, metavar="RUN")
@click.argument("images", nargs=-1, required=True, type=click.Path(), metavar="IMAGE...")
@click.option("-k", "k", type=click.IntRange(1, _MOST), default=10, show_default=True, help="Tags per image.")
@_SCORE
@_DEVICE
@click.option("--json", "json_output", is_flag=True, help="Print one JSON object.")
def annotate(
    directory: Path, images: tuple[str, ...], k: int, score: str, device: str | None, json_output: bool
) -> None:
    """Name the tags of images."""
    options = {"--k": k, "--score": score, "--device": device}
    _ask("annotate", directory, images, options, json_output=json_output)


@click.command(
    epilog='\b\nExamples:\n  hybrid search last "fruit"\n  hybrid search last "cat smile" -k 24 --html cats.html'
)
@click.argument("directory", type=TRAINED_RUN, metavar="RUN")
@click.argument("words", nargs=-1, required=True, metavar="WORDS...")
@click.option("-k", "k", type=click.IntRange(1, _MOST), default=12, show_default=True, help="Images to find.")
@click.option("--variants", is_flag=True, help="Show all of an emoji's skin tones and genders, not the best alone.")
@click.option("--html", type=_SheetFile(".html", ".htm"), help="Write a contact sheet as a self-contained page.")
@click.option("--png", type=_SheetFile(".png"), help="Write a contact sheet as a picture.")
@MOVED_DATA
@click.option("--json", "json_output", is_flag=True, help="Print one JSON object.")
def search(
    directory: Path,
    words: tuple[str, ...],
    k: int,
    variants: bool,
    html: str | None,
    png: str | None,
    data: str | None,
    json_output: bool,
) -> None:
    """Find held-out images by words: an exact tag, else the mean of known tags between commas and known words."""
    if not " ".join(words).strip():
        raise click.UsageError("WORDS are empty: give one at least.")
    options = {"--k": k, "--variants": variants, "--html": html, "--png": png, "--data": data}
    _ask("search", directory, words, options, json_output=json_output)


@click.command(epilog='\b\nExamples:\n  hybrid neighbours last "water"')
@click.argument("directory", type=TRAINED_RUN, metavar="RUN")
@click.argument("tag")
@click.option("-k", "k", type=click.IntRange(1, _MOST), default=10, show_default=True, help="Tags to show.")
@click.option("--json", "json_output", is_flag=True, help="Print one JSON object.")
def neighbours(directory: Path, tag: str, k: int, json_output: bool) -> None:
    """Show the tags whose rows are nearest to a tag's."""
    _ask("neighbours", directory, [tag], {"--k": k}, json_output=json_output)


def _ask(
    verb: str, directory: Path, arguments: Sequence[str], options: Mapping[str, object], *, json_output: bool
) -> NoReturn:
    """Become this verb of the deep side, with kernels from where the run kept them."""
    with contextlib.suppress(ConfigError):  # a config.toml that is damaged: the deep side says how
        inherit_cache_root(str(read_toml(directory / CONFIG_FILE).get("data.cache_dir", "")))
    run_deep_verb(verb, [str(directory), *arguments], {**options, "--json": json_output})
