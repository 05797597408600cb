"""The verbs that look after data sets: `data prepare`, `data stats`."""

from collections.abc import Mapping
from typing import Any

import click

from launch.deep_verb import run_deep_verb
from launch.resolve import flatten, resolve
from launch.train_options import OPTIONS, given_settings, options_of
from workers.settings import to_plain

_PREPARATION = [option for option in OPTIONS if option.key in ("data.image_size", "data.cache_dir")]
_SPLITS = [option for option in OPTIONS if option.key in ("data.hold_out_design", "data.hold_out_fraction")]


@click.group(no_args_is_help=True)
def data() -> None:
    """Prepare data sets, or describe them."""


@data.command(epilog="\b\nExamples:\n  hybrid data prepare emoji\n  hybrid data prepare folder:photos/ --image-size 64")
@click.argument("source")
@options_of(_PREPARATION)
@click.option("--json", "json_output", is_flag=True, help="Print one JSON object.")
def prepare(source: str, json_output: bool, **options: Any) -> None:
    """Fetch and decode a data set once, so that training starts at once."""
    _run("data-prepare", source, options, json_output=json_output)


@data.command(
    epilog="\b\nExamples:\n  hybrid data stats emoji --json\n  hybrid data stats folder:photos/ --hold-out 0.1"
)
@click.argument("source")
@options_of([*_PREPARATION, *_SPLITS])
@click.option("--json", "json_output", is_flag=True, help="Print one JSON object.")
def stats(source: str, json_output: bool, **options: Any) -> None:
    """Count images, tags and splits of a data set."""
    _run("data-stats", source, options, json_output=json_output)


def _run(verb: str, source: str, parameters: Mapping[str, Any], *, json_output: bool) -> None:
    """Check the settings here, where a mistake costs nothing, and pass on those that were given."""
    given = given_settings(parameters)
    checked = flatten(to_plain(resolve(named={"data.source": source, **given})))
    options = {option.flag: checked[option.key] for option in [*_PREPARATION, *_SPLITS] if option.key in given}
    run_deep_verb(verb, [checked["data.source"]], {**options, "--json": json_output})
