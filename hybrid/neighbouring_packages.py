"""Whether Python finds the packages that were installed together."""

import importlib.util
from pathlib import Path


def check_neighbour(name: str) -> None:
    """See to it that a package is the one beside this: users, and ROS 2, have modules called `workers` or `launch`.

    Before it is loaded: another one fails in words that nobody understands.

    Args:
        name: `workers` or `launch`.

    Raises:
        ImportError: Python finds another one first, or none.
    """
    here = Path(__file__).parent.parent / name
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # a stub without a specification
        return
    folders = spec.submodule_search_locations if spec is not None else None
    found = (spec.origin if spec is not None else None) or next(iter(folders or ()), "none")
    place = Path(next(iter(folders or ()), found))
    if place not in (here, here.resolve()) and place.resolve() != here.resolve():
        raise ImportError(
            f"hybrid needs the package {name!r} that was installed with it, {here}, but Python finds {found}: rename "
            "that, or take its folder from the front of sys.path (PYTHONPATH puts it there)."
        )
