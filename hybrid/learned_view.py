"""The data set as a run learned it, though pictures may have gone, come or changed since."""

# Shapes: I images of an index.

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hybrid.data.listing import scan
from hybrid.data.view import View
from hybrid.image_index import ImageIndex
from hybrid.rundir import OtherData, RunDirectory
from launch.config import DataConfig
from workers.cache_root import cache_root
from workers.errors import DataError, RunError

_FOLDER = "folder:"


@dataclass(frozen=True, slots=True)
class LearnedView:
    """A view, and what has become of its pictures."""

    view: View
    gone: Collection[str] = frozenset()
    """Names of pictures that are not there any more."""
    remark: str = ""
    """What has changed, in one line; empty if nothing has."""

    def there(self, index: ImageIndex) -> ImageIndex:
        """The part of an index of this view whose pictures are still there.

        Raises:
            RunError: that is none.
        """
        if not self.gone:
            return index
        is_there_I = np.array([self.view.names[item] not in self.gone for item in index.items_I.tolist()], bool)
        if not is_there_I.any():
            raise RunError(
                f"none of the {len(is_there_I):,} held-out pictures that the run could search is there any more, nor "
                "named by a manifest.tsv that can be read. Put them back, or learn the data as they are."
            )
        return replace(index, items_I=index.items_I[is_there_I], features_ID=index.features_ID[is_there_I])


def learned_view(run: RunDirectory, config: DataConfig, refusal: OtherData) -> LearnedView:
    """The view that was prepared when the run learned, from the cache, where it stays when the data change.

    A picture that was edited is shown as it is, and found as it was.

    Args:
        run: that learned it.
        config: says where the data are now.
        refusal: says that they have changed.

    Raises:
        RunError: it is not in the cache any more.
    """
    cache, fingerprint = cache_root(config.cache_dir), run.prepared("fingerprint")
    before = Path(run.prepared("view") or cache / "views" / str(fingerprint))
    for place in (before, cache / "views" / before.name):
        try:
            view = View(place)
        except (DataError, OSError):
            continue
        if fingerprint in (None, view.fingerprint):
            return _compared(view, config, cache)
    raise RunError(
        "pictures that are still there could be searched with what was prepared of them when they were learned, but it "
        f"is not in the cache any more ({before}), and {refusal}"
    ) from refusal


def _compared(view: View, config: DataConfig, cache: Path) -> LearnedView:
    changes, gone = [], frozenset[str]()
    if config.source.startswith(_FOLDER):
        there = frozenset(scan(config.source.removeprefix(_FOLDER), cache).pictures)
        gone = frozenset(view.names) - there
        changes.append(_counted(len(gone), "gone"))
        if not config.max_items:  # else others were there, too
            skipped = _skipped_names(view)
            new = [name for name in there.difference(view.names) if " ".join(name.split()) not in skipped]
            changes.append(_counted(len(new), "new"))
    what = ", ".join(filter(None, changes)) or "pictures or tags were edited, or are prepared in another way"
    remark = (
        f"the data ({config.source}) have changed since the run learned them: {what}. Held-out pictures that are still "
        "there were searched by what they were then."
    )
    return LearnedView(view, gone, remark)


def _counted(number: int, what: str) -> str:
    if not number:
        return ""
    return f"{number:,} {'picture is' if number == 1 else 'pictures are'} {what}"


def _skipped_names(view: View) -> set[str]:
    """Of pictures that were there, and were left out."""
    with view.skipped_path.open(encoding="utf-8") as file:
        return {line.split("\t")[1] for line in file}
