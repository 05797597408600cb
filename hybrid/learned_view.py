"""The data set as a run learned it, though pictures may have gone, come or changed since."""

# Shapes: I images of an index.

import shlex
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from hybrid.cached_view import cached_view, listing_of
from hybrid.data.view import View
from hybrid.data_changes import UNCOUNTED, changes_by_name, gone_from
from hybrid.image_index import ImageIndex
from hybrid.rundir import OtherData, RunDirectory
from launch.config import DataConfig
from workers.errors import RunError


@dataclass(frozen=True, slots=True)
class LearnedView:
    """A view, and what has become of its pictures."""

    view: View
    gone: Collection[str] = frozenset()
    """Names of pictures that are not there any more."""
    remark: str = ""
    """What has changed, in one line; empty if nothing has."""
    purpose: str = ""
    remedy: str = ""
    """What to do then: a command, and what it is for."""

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
        refusal: says that they have changed, or may have.

    Raises:
        RunError: it is not in the cache any more.
    """
    view = cached_view(run, config)
    if view is None:
        before = run.prepared("view") or run.prepared("fingerprint")
        raise RunError(
            "pictures that are still there could be searched with what was prepared of them when they were learned, "
            f"but it is not in the cache any more ({before}), and {refusal}"
        ) from refusal
    listing = listing_of(config)
    if listing is None:
        return _remarked(LearnedView(view), run, config.source, refusal.changes or UNCOUNTED)
    changes = changes_by_name(view, listing, is_choice=bool(config.max_items)) or refusal.changes
    return _remarked(LearnedView(view, gone_from(view, listing)), run, config.source, changes)


def _remarked(learned: LearnedView, run: RunDirectory, source: str, changes: str) -> LearnedView:
    """Without `changes` nothing is known but that files are not where they were, or were written since."""
    if changes:
        return replace(
            learned,
            remark=f"the data ({source}) have changed since the run learned them: {changes}. Held-out pictures that "
            "are still there were searched by what they were then.",
            purpose="To learn the data as they are, with the settings of this run",
            remedy=run.fresh_run_command(source),
        )
    return replace(
        learned,
        remark=f"the data ({source}) were moved, copied or edited since the run learned them; held-out pictures were "
        "searched by what they were then.",
        purpose="To see whether they are the same",
        remedy=f"hybrid evaluate {shlex.quote(str(run.path))}{run.data_option(source)}",
    )
