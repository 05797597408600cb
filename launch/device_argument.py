"""A device on the command line."""

from typing import Final

import click

from launch.config import check_device_name
from workers.errors import ConfigError


class DeviceArgument(click.ParamType):
    """`auto`, `cpu`, `cuda`, or one of several cards by its number."""

    name = "auto|cpu|cuda|cuda:N"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """As it must be written; click would show it in capitals."""
        return self.name

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name as it is; a usage error if it is none."""
        try:
            check_device_name("device", value)
        except ConfigError as error:
            self.fail(str(error), param, ctx)
        return value


DEVICE: Final = DeviceArgument()
