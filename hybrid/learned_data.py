"""The data of a run, prepared where they are now if they are those that it learned."""

from pathlib import Path

from hybrid.cached_view import cached_view, folder_of, listing_of
from hybrid.data.cache import ProgressCallback
from hybrid.data.prepare import prepare, silent
from hybrid.data.view import View
from hybrid.data_changes import UNCOUNTED, changes_between, changes_by_name
from hybrid.rundir import OtherData, RunDirectory
from launch.config import DataConfig
from launch.run_settings import without_folder
from workers.errors import RunError


def prepare_learned(
    run: RunDirectory, config: DataConfig, progress: ProgressCallback = silent, *, is_hurried: bool = False
) -> View:
    """The data set as a view, prepared if it is not in the cache, once it is found to hold what the run learned.

    Where files lie and when they were written does not count (see `View.content`), but then they are prepared anew to
    tell. A run of an earlier version noted no content. Its data are known by that of the view in the cache which it
    learned, or, where that is gone, by place, names, sizes and times of change.

    Args:
        run: the run. Of one that no data were prepared for yet, any will do.
        config: says where the data are now.
        progress: as of `prepare`.
        is_hurried: whether to refuse data that would have to be prepared anew, while the cache holds what was learned.

    Raises:
        OtherData: pictures, tags or their order have changed, or perhaps have if `is_hurried`.
        RunError: the folder is not there.
        DataError: as of `prepare`.
    """
    source, learned = config.source, cached_view(run, config)
    if (folder := folder_of(config)) is not None and not folder.is_dir():
        raise RunError(without_folder(run.path, source))

    def check(place: Path) -> None:
        if learned is None or place.is_dir() or place.name == learned.folder.name:
            return  # no picture is read, or nothing to compare with is there
        if is_hurried:
            raise OtherData(f"the data ({source}) were moved, copied or edited since {run.path} learned them.")
        listing = listing_of(config)
        if listing and (changes := changes_by_name(learned, listing, is_choice=bool(config.max_items))):
            raise _other_data(run, source, changes)

    view = prepare(config, progress, check)
    if not _is_learned(run, learned, view):
        is_by_place = learned is None and run.prepared("content") is None
        raise _other_data(run, source, _differences(run, learned, view), is_by_place=is_by_place)
    return view


def _is_learned(run: RunDirectory, learned: View | None, view: View) -> bool:
    if learned is not None and learned.folder == view.folder:
        return True
    content = run.prepared("content")
    if content is None and learned is not None and learned.images.is_decoded:
        content = learned.content
    if content is not None:
        return content == view.content
    before = run.prepared("view")
    is_in_place = before is None or Path(before).name == view.folder.name
    return is_in_place and run.prepared("fingerprint") in (None, view.fingerprint)


def _differences(run: RunDirectory, learned: View | None, view: View) -> str:
    if learned is not None and (changes := changes_between(learned, view)):
        return changes
    now = f"{len(view)} pictures with {len(view.marginal)} tags"
    before = f"{run.prepared('num_items')} pictures with {run.prepared('num_tags')} tags"
    if now == before or run.prepared("num_items") is None:
        return UNCOUNTED
    return f"they hold {now}, and held {before} then"


def _other_data(run: RunDirectory, source: str, changes: str, *, is_by_place: bool = False) -> OtherData:
    as_they_were, are_not = "as they were (in any place)", "are not"
    if is_by_place:
        if changes == UNCOUNTED:  # they may well be the same
            are_not, changes = "are not known to be", "they were moved, copied or edited since"
        as_they_were = (
            "as they were (the run is of an earlier version: place, names, sizes and times of change count; cp -a and "
            "rsync -t keep them)"
        )
    return OtherData(
        f"the data ({source}) {are_not} those that {run.path} learned: {changes}. Its rows would stand for other tags, "
        f"so nothing was done. Put the data back {as_they_were}, or learn them in a fresh run, with "
        f"the settings of this one: {run.fresh_run_command(source)}",
        changes,
    )
