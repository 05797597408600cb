"""The deep side's verbs and their arguments; each loads what it needs when it is called."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from workers.errors import DataError
from workers.json_text import to_json

DIRECTORY = click.argument("directory", type=click.Path(path_type=Path))
JSON = click.option("--json", "json_output", is_flag=True)
LINK = click.option("--link", required=True)
SCORE = click.option("--score", required=True)  # defaults are the launcher's: it says them, too
DEVICE = click.option("--device")
DATA = click.option("--data")
LIFELINE = click.option("--lifeline-fd", type=int, required=True)


@click.group()
def verbs() -> None:
    """Parts of `hybrid` that need the deep side; start them through the `hybrid` command."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)


@verbs.command()
@DIRECTORY
@LINK
@LIFELINE
def prepare(directory: Path, link: str, lifeline_fd: int) -> None:
    """Prepare a run's data."""
    from hybrid.supervised import run_prepare

    run_prepare(directory, link, lifeline_fd)


@verbs.command()
@DIRECTORY
@LINK
@LIFELINE
@click.option("--assignment-fd", type=int, required=True)
def train(directory: Path, link: str, lifeline_fd: int, assignment_fd: int) -> None:
    """Train a run."""
    from hybrid.supervised import run_train

    run_train(directory, link, lifeline_fd, assignment_fd)


@verbs.command()
@DIRECTORY
@SCORE
@click.option("--map-least", type=int, required=True)
@click.option("--map-most", type=int, required=True)
@DEVICE
@DATA
@JSON
def evaluate(
    directory: Path,
    score: str,
    map_least: int,
    map_most: int,
    device: str | None,
    data: str | None,
    json_output: bool,
) -> None:
    """Measure a run's last checkpoint on its test items."""
    _quiet()
    from hybrid.loaded import load
    from hybrid.measured import NotStored
    from hybrid.tables import metrics_table

    error = None
    with _progress() as progress:
        try:
            tables = load(directory, device, data).evaluate(score, (map_least, map_most), progress)
        except NotStored as e:  # what was measured is shown all the same
            error, tables = e, e.tables
    _show(lambda: [metrics_table(table, title=name) for name, table in tables.items()], _flat(tables), json_output)
    if error is not None:
        raise error


@verbs.command()
@DIRECTORY
@click.argument("images", nargs=-1, required=True)
@click.option("--k", type=int, required=True)
@SCORE
@DEVICE
@JSON
def annotate(
    directory: Path, images: tuple[str, ...], k: int, score: str, device: str | None, json_output: bool
) -> None:
    """Name the tags of pictures; those that cannot be used are named at the end, and make the exit status 1."""
    _quiet()
    from hybrid.loaded import load
    from hybrid.tables import tags_table

    run = load(directory, device)
    pictures, errors = {}, []
    for image in images:
        try:
            pictures[image] = run.read_picture(image)
        except DataError as e:
            errors.append(e)
    found = dict(zip(pictures, run.annotate_pictures(list(pictures.values()), k, score), strict=True))
    plain = {"images": [{"image": image, "tags": [tag.plain() for tag in tags]} for image, tags in found.items()]}
    _show(lambda: [tags_table(tags, image, "score") for image, tags in found.items()], plain, json_output)
    for error in errors:
        click.echo(f"Error: {error}", err=True)
    if errors:
        sys.exit(1)


@verbs.command()
@DIRECTORY
@click.argument("words", nargs=-1, required=True)
@click.option("--k", type=int, required=True)
@click.option("--variants", is_flag=True)
@click.option("--html", type=click.Path(path_type=Path))
@click.option("--png", type=click.Path(path_type=Path))
@DATA
@JSON
def search(
    directory: Path,
    words: tuple[str, ...],
    k: int,
    variants: bool,
    html: Path | None,
    png: Path | None,
    data: str | None,
    json_output: bool,
) -> None:
    """Find held-out pictures by words."""
    _quiet()
    from hybrid.loaded import load
    from hybrid.tables import search_table

    run = load(directory, data=data)
    with _progress() as progress:
        result = run.search(" ".join(words), k, progress, variants=variants)
    if html is not None or png is not None:
        from hybrid.contact_sheet import write_html_sheet, write_png_sheet  # draws with matplotlib

        if html is not None:
            write_html_sheet(html, result, run.learned.view, directory.name)
        if png is not None:
            write_png_sheet(png, result, run.learned.view)
    remedy = [f"{result.purpose}:\n\n  {result.remedy}\n"] if result.remedy else []
    _show(
        lambda: [search_table(result), *remedy, *(f"Written: {path}" for path in (html, png) if path)],
        result.plain(),
        json_output,
    )
    if not result.tags:  # as for `neighbours`, a script can tell
        raise SystemExit(1)


@verbs.command()
@DIRECTORY
@click.argument("tag")
@click.option("--k", type=int, required=True)
@JSON
def neighbours(directory: Path, tag: str, k: int, json_output: bool) -> None:
    """Show the tags whose rows are nearest to a tag's."""
    _quiet()
    from hybrid.loaded import load
    from hybrid.tables import tags_table

    tags = load(directory).neighbours(tag, k)
    plain = {"tag": tag, "neighbours": [near.plain() for near in tags]}
    _show(lambda: [tags_table(tags, f"Tags nearest to {tag}", "cosine")], plain, json_output)


@verbs.command("data-prepare")
@click.argument("source")
@click.option("--image-size", type=int)
@click.option("--cache-dir")
@JSON
def data_prepare(source: str, image_size: int | None, cache_dir: str | None, json_output: bool) -> None:
    """Prepare a data set."""
    _describe(source, json_output, image_size=image_size, cache_dir=cache_dir)


@verbs.command("data-stats")
@click.argument("source")
@click.option("--image-size", type=int)
@click.option("--cache-dir")
@click.option("--hold-out-design")
@click.option("--hold-out", type=float)
@JSON
def data_stats(
    source: str,
    image_size: int | None,
    cache_dir: str | None,
    hold_out_design: str | None,
    hold_out: float | None,
    json_output: bool,
) -> None:
    """Describe a data set."""
    _describe(
        source,
        json_output,
        image_size=image_size,
        cache_dir=cache_dir,
        hold_out_design=hold_out_design,
        hold_out_fraction=hold_out,
    )


def _describe(source: str, json_output: bool, **settings: Any) -> None:
    _quiet()
    from hybrid.data.prepare import prepare as prepare_data
    from hybrid.data.stats import stats
    from hybrid.facts_table import facts_table
    from launch.config import DataConfig

    config = DataConfig(source=source, **{name: value for name, value in settings.items() if value is not None})
    with _progress() as progress:
        view = prepare_data(config, progress)
    found = stats(view)
    _show(lambda: [facts_table(found, title=source), f"Prepared in {view.folder}"], found, json_output)


def _progress() -> Any:
    """Progress bars on the error stream: the output stays clean."""
    from hybrid.progress_bar import ProgressBar

    return ProgressBar()


def _quiet() -> None:
    """Verbs that answer a person log warnings only; what the data leave out was said when they were prepared."""
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("hybrid.data").setLevel(logging.ERROR)


def _show(tables: Callable[[], list[Any]], plain: Any, json_output: bool) -> None:
    from workers.full_output import explained_if_full

    with explained_if_full():
        if json_output:
            click.echo(to_json(plain))
            return
        from rich.console import Console
        from rich.text import Text

        console = Console()
        for table in tables():
            if isinstance(table, str):
                console.print(Text(table), soft_wrap=True)  # a path is no markup, whatever it holds, and one piece
            else:
                console.print(table)


def _flat(tables: dict[str, Any]) -> dict[str, Any]:
    """The test set's measures as they are; further test sets under their names."""
    rest = {name: table for name, table in tables.items() if name != "test"}
    return {**tables.get("test", {}), **rest}
