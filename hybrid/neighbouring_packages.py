"""Whether Python finds the packages that were installed together."""

import importlib.util
from pathlib import Path


def check_workers() -> None:
    """Raise ImportError if `workers` is another one than that beside this package: users have modules of that name."""
    here = Path(__file__).parent.parent / "workers"
    try:
        spec = importlib.util.find_spec("workers")
    except ValueError:  # a stub without a specification
        return
    folders = spec.submodule_search_locations if spec is not None else None
    found = (spec.origin if spec is not None else None) or next(iter(folders or ()), "none")
    place = Path(next(iter(folders or ()), found))
    if place not in (here, here.resolve()) and place.resolve() != here.resolve():
        raise ImportError(
            f"hybrid needs the package 'workers' that was installed with it, {here}, but Python finds {found}: rename "
            "that, or take its folder from the front of sys.path."
        )
