"""A training in a process of its own, so that no contender inherits another's memory or threads."""

import json
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

from benchmarks.curve_settings import CurveSettings
from benchmarks.environment import trunk_environment
from hybrid.trunks import build_trunk
from workers.errors import RunError
from workers.settings import to_plain

_LIMIT_S, _LIMIT_PER_BUDGET = 1800.0, 3.0


def check_curves(curves: Iterable[CurveSettings]) -> None:
    """Whether these can be opened, so that nothing is trained in vain before one that cannot.

    Raises:
        ConfigError: a setting breaks its rule, or there is no such trunk.
    """
    configs = [curve.run_config for curve in curves]
    for trunk, image_size in {(config.trunk, config.data.image_size) for config in configs}:
        build_trunk(trunk, image_size)


def run_in_process(settings: CurveSettings) -> dict[str, Any]:
    """The result of `benchmarks.curve.run_curve`; what it says goes to standard error.

    Raises:
        RunError: the training failed, or took far longer than its budget.
    """
    command = [sys.executable, "-m", "benchmarks.curve", json.dumps(to_plain(settings))]
    limit_s = _LIMIT_S + _LIMIT_PER_BUDGET * (settings.seconds or 0.0)
    environment = trunk_environment(settings.workers, settings.device)
    try:
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, timeout=limit_s, text=True)
        return json.loads(done.stdout.splitlines()[-1])
    except (subprocess.SubprocessError, ValueError, IndexError) as e:
        raise RunError(f"the training of {settings.name} failed: {e}. Standard error above says why.") from e
