"""The console command `hybrid`."""

import importlib.metadata
from typing import Any

import click

from launch.verb_train import train
from launch.verbs_asking import annotate, evaluate, neighbours, search
from launch.verbs_data import data
from launch.verbs_running import scale, status, stop
from workers.errors import ConfigError, HybridError
from workers.full_output import explained_if_full

_EPILOG = """\b
Examples:
  hybrid train                          train on emoji, with hundreds of thousands of tags
  hybrid train --data folder:photos/    your own images and tags
  hybrid scale last 4                   more workers, while it trains
  hybrid search last "fruit"            find images by words
  hybrid annotate last photo.jpg        find words for an image

RUN is a run directory, its name under runs/, or `last`. `hybrid VERB --help` tells more.
"""


class WrongSetting(click.ClickException):
    """A setting that cannot be: the same status as click's own for wrong usage."""

    exit_code = 2


class ExplainedGroup(click.Group):
    """Shows our own errors as one message: status 2 for a setting that cannot be, 1 for what went wrong."""

    def main(self, *args: Any, **extra: Any) -> Any:
        with explained_if_full():
            return super().main(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.NoSuchOption as error:  # click finds the most alike first, but lists them by the alphabet
            likest = (error.possibilities or [])[:1]
            raise click.NoSuchOption(error.option_name, possibilities=likest, ctx=error.ctx) from error
        except HybridError as error:
            raise (WrongSetting if isinstance(error, ConfigError) else click.ClickException)(str(error)) from error


def _version() -> str:
    try:
        return importlib.metadata.version("hybrid-wide")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


@click.group(cls=ExplainedGroup, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(_version(), prog_name="hybrid")
def main() -> None:
    """Train networks whose last layer has millions of rows: the trunk on the GPU, the tag matrix on the CPU."""


for verb in (train, status, scale, stop, evaluate, annotate, search, neighbours, data):
    main.add_command(verb)
