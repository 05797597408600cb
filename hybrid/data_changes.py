"""What has become of data since a view of them was made, counted for people."""

# Shapes: I items.

import numpy as np

from hybrid.data.folder import with_tags
from hybrid.data.images import BadImage
from hybrid.data.listing import Listing
from hybrid.data.pictures import PhotoPictures
from hybrid.data.skipped import as_field, read_skipped
from hybrid.data.view import View

_ITEMS_PER_READ = 256
UNCOUNTED = "pictures or tags were edited, or are prepared in another way"
"""What may have changed where no picture is counted."""


def gone_from(view: View, listing: Listing) -> frozenset[str]:
    """Names of the view's pictures that are not there any more."""
    return frozenset(view.names).difference(listing.pictures)


def new_in(listing: Listing, view: View) -> list[str]:
    """Names of pictures that were not there when the view was made, nor left out, and would not be now.

    Of such pictures tags and headers are read alone: one that turns out to be broken further on counts.
    """
    skipped = {name for _, name, _ in read_skipped(view.skipped_path)}
    fresh = [name for name in frozenset(listing.pictures).difference(view.names) if as_field(name) not in skipped]
    tagged = with_tags(listing, sorted(fresh))
    pictures = PhotoPictures(listing.root, tagged)
    return [name for number, name in enumerate(tagged) if _can_be_read(pictures, number)]


def _can_be_read(pictures: PhotoPictures, number: int) -> bool:
    try:
        pictures.probe(number)
    except BadImage:
        return False
    return True


def changes_by_name(view: View, listing: Listing, *, is_choice: bool) -> str:
    """How many pictures are gone or new, told by their names alone; empty if none is.

    Args:
        view: made before.
        listing: of what is there now.
        is_choice: whether the view has only some of the pictures: then no others are new.
    """
    new = [] if is_choice else new_in(listing, view)
    return _joined(_counted(len(gone_from(view, listing)), "gone"), _counted(len(new), "new"))


def changes_between(before: View, now: View) -> str:
    """How many pictures are gone, new, tagged in another way, or show something else; empty if none is."""
    item_of = {name: item for item, name in enumerate(now.names)}
    old_I = np.array([item for item, name in enumerate(before.names) if name in item_of], np.int64)
    new_I = np.array([item_of[before.names[item]] for item in old_I.tolist()], np.int64)
    num_kept = len(old_I)
    return _joined(
        _counted(len(before) - num_kept, "gone"),
        _counted(len(now) - num_kept, "new"),
        _counted(_num_retagged(before, now, old_I, new_I), "tagged in another way"),
        _counted(_num_redrawn(before, now, old_I, new_I), "changed"),
    )


def _num_retagged(before: View, now: View, old_I: np.ndarray, new_I: np.ndarray) -> int:
    """Tags are compared by their text, as far as views know it.

    A picture that is held out keeps its tags when training loses one of them: of such a tag only the number is known.
    """
    common = frozenset(before.vocabulary.tags).intersection(now.vocabulary.tags)
    trained = frozenset(before.train_items.tolist())

    def tags(view: View, item: int, *, is_trained: bool) -> tuple[frozenset[str], int]:
        ids = view.item_tags[view.item_offsets[item] : view.item_offsets[item + 1]]
        known = frozenset(view.vocabulary.tags[i] for i in ids)
        return known if is_trained else known & common, len(ids) + int(view.num_unseen_tags[item])

    pairs = ((old, new, old in trained) for old, new in zip(old_I.tolist(), new_I.tolist(), strict=True))
    return sum(tags(before, old, is_trained=its) != tags(now, new, is_trained=its) for old, new, its in pairs)


def _num_redrawn(before: View, now: View, old_I: np.ndarray, new_I: np.ndarray) -> int:
    """Where pictures are not stored, nothing tells what they showed."""
    if not (before.images.is_decoded and now.images.is_decoded) or before.images.size != now.images.size:
        return 0
    num = 0
    for start in range(0, len(old_I), _ITEMS_PER_READ):
        part = slice(start, start + _ITEMS_PER_READ)
        old_BSSC, new_BSSC = before.images.read(old_I[part])[0], now.images.read(new_I[part])[0]
        num += int(np.count_nonzero((old_BSSC != new_BSSC).any(axis=(1, 2, 3))))
    return num


def _joined(*changes: str) -> str:
    return ", ".join(filter(None, changes))


def _counted(number: int, what: str) -> str:
    if not number:
        return ""
    return f"{number:,} {'picture is' if number == 1 else 'pictures are'} {what}"
