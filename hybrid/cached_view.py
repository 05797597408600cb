"""What the cache still holds of the data that a run learned."""

from pathlib import Path

from hybrid.data.listing import Listing, scan
from hybrid.data.view import View
from hybrid.rundir import RunDirectory
from launch.config import DataConfig
from workers.cache_root import cache_root
from workers.errors import DataError

_FOLDER = "folder:"


def cached_view(run: RunDirectory, config: DataConfig) -> View | None:
    """The view that the run learned, from the cache, where it stays when the data change; None if it is gone.

    Its pictures are read where the settings say that the data are now.
    """
    cache, fingerprint, content = cache_root(config.cache_dir), run.prepared("fingerprint"), run.prepared("content")
    before = Path(run.prepared("view") or cache / "views" / str(fingerprint))
    for place in (before, cache / "views" / before.name):
        try:
            view = View(place, folder_of(config))
            if fingerprint in (None, view.fingerprint) and content in (None, view.content):
                return view
        except (DataError, OSError):
            continue
    return None


def listing_of(config: DataConfig) -> Listing | None:
    """What is in the folder now, none of it read; None for other data."""
    return scan(str(folder), cache_root(config.cache_dir)) if (folder := folder_of(config)) is not None else None


def folder_of(config: DataConfig) -> Path | None:
    """Where the user's own pictures are; None for other data."""
    if not config.source.startswith(_FOLDER):
        return None
    return Path(config.source.removeprefix(_FOLDER)).expanduser().absolute()
