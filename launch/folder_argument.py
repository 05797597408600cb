"""Where a run's folder of pictures is now, on the command line."""

from pathlib import Path
from typing import Final

import click

from launch.resolve import check_path


class FolderArgument(click.ParamType):
    """`folder:PATH` of a folder that is there, made absolute."""

    name = "folder:PATH"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """As it must be written; click would show it in capitals."""
        return self.name

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The same with an absolute path; a usage error if there is no such folder."""
        kind, colon, path = value.partition(":")
        if (kind, colon) != ("folder", ":") or not path:
            self.fail(f"{value!r} is not {self.name}.", param, ctx)
        folder = Path(path).expanduser().resolve()
        if not folder.is_dir():
            self.fail(f"{value!r}: there is no such folder.", param, ctx)
        check_path("--data", str(folder))
        return f"folder:{folder}"


MOVED_DATA: Final = click.option(
    "--data", type=FolderArgument(), help="Where the run's folder of pictures is now, if it was moved or copied."
)
