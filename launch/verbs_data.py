"""The verbs that look after data sets: `data prepare`, `data stats`."""

import click

from launch.deep_verb import run_deep_verb
from launch.resolve import resolve


@click.group(no_args_is_help=True)
def data() -> None:
    """Prepare data sets, or describe them."""


@data.command(epilog="\b\nExamples:\n  hybrid data prepare emoji\n  hybrid data prepare folder:photos/ --image-size 64")
@click.argument("source")
@click.option("--image-size", type=int, help="Side in pixels of the prepared images.")
@click.option("--cache-dir", help="Where prepared data are kept; otherwise $HYBRID_CACHE or ~/.cache/hybrid.")
@click.option("--json", "json_output", is_flag=True, help="Print one JSON object.")
def prepare(source: str, image_size: int | None, cache_dir: str | None, json_output: bool) -> None:
    """Fetch and decode a data set once, so that training starts at once."""
    _run("data-prepare", source, image_size, cache_dir, None, None, json_output)


@data.command(
    epilog="\b\nExamples:\n  hybrid data stats emoji --json\n  hybrid data stats folder:photos/ --hold-out 0.1"
)
@click.argument("source")
@click.option("--image-size", type=int, help="Side in pixels of the prepared images.")
@click.option("--cache-dir", help="Where prepared data are kept; otherwise $HYBRID_CACHE or ~/.cache/hybrid.")
@click.option("--hold-out-design", help="Emoji: the design that is held out.")
@click.option("--hold-out", type=float, help="Folders: share of the images kept for the test.")
@click.option("--json", "json_output", is_flag=True, help="Print one JSON object.")
def stats(
    source: str,
    image_size: int | None,
    cache_dir: str | None,
    hold_out_design: str | None,
    hold_out: float | None,
    json_output: bool,
) -> None:
    """Count images, tags and splits of a data set."""
    _run("data-stats", source, image_size, cache_dir, hold_out_design, hold_out, json_output)


def _run(
    verb: str,
    source: str,
    image_size: int | None,
    cache_dir: str | None,
    hold_out_design: str | None,
    hold_out: float | None,
    json_output: bool,
) -> None:
    """Check the settings here, where a mistake costs nothing, and pass on those that were given."""
    given = {
        "data.source": source,
        "data.image_size": image_size,
        "data.cache_dir": cache_dir,
        "data.hold_out_design": hold_out_design,
        "data.hold_out_fraction": hold_out,
    }
    checked = resolve(named={key: value for key, value in given.items() if value is not None}).data
    options = {
        "--image-size": image_size,
        "--cache-dir": checked.cache_dir or None,
        "--hold-out-design": hold_out_design,
        "--hold-out": hold_out,
    }
    run_deep_verb(verb, [checked.source], options, json_output=json_output)
