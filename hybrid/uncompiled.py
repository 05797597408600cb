"""What `torch.compile` shall not look into."""

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def uncompiled(function: Callable[P, R]) -> Callable[P, R]:
    """A function that runs as it is, with all that it calls, where a compiled module calls it.

    `torch.compiler.disable` loads the compiler, a second that every command would pay; here it is asked when somebody
    has loaded it.
    """
    left_alone: Callable[P, R] | None = None

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        nonlocal left_alone
        if left_alone is None and "torch._dynamo" in sys.modules:
            left_alone = torch.compiler.disable(function)
        return (left_alone or function)(*args, **kwargs)

    vars(run)["_torchdynamo_disable"] = True  # the compiler's own mark: its graph ends here
    return run
