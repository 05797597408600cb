"""Where a run's folder of pictures is now, on the command line."""

from typing import Final

import click

from launch.paths import absolute_path, is_there


class FolderArgument(click.ParamType):
    """`folder:PATH` of a folder that is there, made absolute."""

    name = "folder:PATH"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """As it must be written; click would show it in capitals."""
        return self.name

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The same with an absolute path; a usage error, or a ConfigError, if there is no such folder."""
        kind, colon, path = value.partition(":")
        if (kind, colon) != ("folder", ":") or not path:
            self.fail(f"{value!r} is not {self.name}.", param, ctx)
        folder = absolute_path("--data", path)
        if not is_there("--data", folder):
            self.fail(f"{value!r}: there is no such folder.", param, ctx)
        return f"folder:{folder}"


MOVED_DATA: Final = click.option(
    "--data", type=FolderArgument(), help="Where the run's folder of pictures is now, if it was moved or copied."
)
