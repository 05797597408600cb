"""What has to be installed for a run to begin."""

import contextlib
import importlib.util
from importlib.machinery import PathFinder
from pathlib import Path

from launch.config import RunConfig
from workers.accelerator import torch_build
from workers.errors import ConfigError


def check_device(config: RunConfig) -> None:
    """Refuse a card where the installed torch can use none, before anything starts; of others torch itself will tell.

    Raises:
        ConfigError: CUDA was asked for, and the build is for the CPU.
    """
    if config.trunk.device.startswith("cuda") and torch_build() == "cpu":
        raise ConfigError(
            f"trunk.device = {config.trunk.device!r}, but the torch installed here was built for the CPU alone. Use "
            "--device cpu, or install a build for CUDA."
        )


def check_trunk(config: RunConfig) -> None:
    """Refuse a trunk of one's own whose module is nowhere, before anything starts; the trunk's process looks further.

    Nothing is imported: in a package only the package itself is looked for.

    Raises:
        ConfigError: there is no such module where the trunk's process will look.
    """
    module, colon, _ = config.trunk.factory.partition(":")
    if not colon:
        return
    package = module.partition(".")[0]
    with contextlib.suppress(ValueError):  # no name of a module
        here = str(Path.cwd())
        if importlib.util.find_spec(package) or PathFinder.find_spec(package, [here]):
            return
    raise ConfigError(
        f"trunk.factory = {config.trunk.factory!r} cannot be imported: there is no module {package!r}. Is it in the "
        "working directory or on PYTHONPATH?"
    )
