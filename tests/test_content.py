"""The content of a view says what training sees, wherever files lie and whenever they were written."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image
from tiny_data import write_packages, write_photos

from hybrid.data.content import content_of
from hybrid.data.prepare import prepare
from hybrid.data.view import View
from hybrid.data_changes import changes_between
from launch.config import DataConfig


@pytest.fixture(params=["stored", "read on the fly"])
def photos(request, tmp_path, monkeypatch):
    """A folder of thirty pictures, and whether views of them hold pixels."""
    if request.param != "stored":
        monkeypatch.setattr("hybrid.data.image_cache.MAX_BYTES", 0)
    folder = tmp_path / "photos"
    write_photos(folder, 30)
    return folder


def view_of(folder, **settings):
    cache = str(folder.parent / "cache")
    return prepare(DataConfig(**{"source": f"folder:{folder}", "cache_dir": cache, "image_size": 12, **settings}))


def copied(folder):
    """The folder anew, where every file has another time."""
    target = folder.with_name("copy")
    shutil.copytree(folder, target, copy_function=shutil.copyfile)
    return target


def edit_pixel(path):
    with Image.open(path) as image:
        image.load()
    image.putpixel((3, 3), (255, 255, 255))
    image.save(path)


def rename(folder, name, to):
    for suffix in (".png", ".txt"):
        (folder / name).with_suffix(suffix).rename((folder / to).with_suffix(suffix))


def test_a_copy_without_times_and_a_moved_folder_hold_the_same(photos):
    view = view_of(photos)
    copy = view_of(copied(photos))
    assert copy.content == view.content and copy.fingerprint != view.fingerprint
    assert changes_between(view, copy) == ""
    photos.rename(photos.with_name("moved"))
    assert view_of(photos.with_name("moved")).content == view.content


def test_what_training_does_not_see_does_not_count(photos):
    content = view_of(photos).content
    Image.new("RGB", (30, 20)).save(photos / "untagged.png")
    (photos / "a003.txt").write_text("RARE,  own 3\nsquare, square")
    os.utime(photos / "a004.png", (1, 1))
    assert view_of(photos).content == content


def test_each_change_that_training_sees_makes_another_content(photos):
    view = view_of(photos)
    trained, other = (view.names[item] for item in view.train_items[:2].tolist())
    tested = view.names[int(view.test_items[0])]
    first_tag = (photos / trained).with_suffix(".txt")
    changes = {
        "1 picture is gone": lambda: (photos / trained).unlink(),
        "1 picture is gone, 1 picture is new": lambda: rename(photos, trained, "renamed.png"),
        "1 picture is new": lambda: (
            shutil.copy(photos / other, photos / "b.png") and (photos / "b.txt").write_text("b")
        ),
        "1 picture is tagged in another way": lambda: first_tag.write_text("square, brand new"),
        "1 picture is tagged in another way ": lambda: (
            (photos / tested).with_suffix(".txt").write_text("square, x, y, z")
        ),
        "2 pictures are tagged in another way": lambda: [
            (photos / name).with_suffix(".txt").write_text("brand new") for name in (trained, other)
        ],
    }
    shutil.copytree(photos, kept := photos.with_name("kept"))
    seen = {view.content}
    for told, change in changes.items():
        change()
        changed = view_of(photos)
        assert changes_between(view, changed) == told.strip()
        assert changed.content not in seen
        seen.add(changed.content)
        shutil.rmtree(photos)
        shutil.copytree(kept, photos)
    assert view_of(photos).content == view.content


def test_a_changed_pixel_makes_another_content_if_pixels_are_stored(tmp_path):
    write_photos(tmp_path / "photos", 30)
    view = view_of(tmp_path / "photos")
    edit_pixel(tmp_path / "photos" / "a005.png")
    edited = view_of(tmp_path / "photos")
    assert edited.content != view.content and changes_between(view, edited) == "1 picture is changed"


def test_pictures_read_on_the_fly_are_told_by_their_size_in_bytes_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("hybrid.data.image_cache.MAX_BYTES", 0)
    write_photos(tmp_path / "photos", 30)
    for path in (tmp_path / "photos").glob("*.png"):
        with Image.open(path) as image:
            image.save(path.with_suffix(".bmp"))
        path.unlink()
    view = view_of(tmp_path / "photos")
    edit_pixel(tmp_path / "photos" / "a005.bmp")
    assert view_of(tmp_path / "photos").content == view.content
    with (tmp_path / "photos" / "a005.bmp").open("ab") as file:
        file.write(b"more")
    assert view_of(tmp_path / "photos").content != view.content
    assert View(view.folder).content == view.content, "it is kept, not computed from files as they are now"


@pytest.mark.parametrize(
    "settings", [{"hold_out_fraction": 0.4}, {"image_size": 40}, {"max_tags": 3}, {"min_count": 9}]
)
def test_other_splits_sizes_and_vocabularies_are_other_content(photos, settings):
    assert view_of(photos, **settings).content != view_of(photos).content


def test_a_view_of_an_earlier_version_has_its_content_computed(tmp_path):
    write_photos(tmp_path / "photos", 30)
    view = view_of(tmp_path / "photos")
    facts = json.loads((view.folder / "view.json").read_text())
    assert facts.pop("content") == view.content
    (view.folder / "view.json").write_text(json.dumps(facts))
    shutil.rmtree(tmp_path / "photos")
    assert View(view.folder).content == view.content


def test_of_drawings_the_text_counts_however_they_are_rendered(tmp_path):
    def view_of_emoji(name, bodies=None):
        write_packages(tmp_path / name / "npm", bodies)
        return prepare(DataConfig(source="emoji", cache_dir=str(tmp_path / name), image_size=12))

    view, same = view_of_emoji("one"), view_of_emoji("two")
    (images,) = (tmp_path / "two" / "images").glob("*/images.npy")
    np.lib.format.open_memmap(images, mode="r+")[:] ^= 1
    assert same._digest() == view.content
    assert view_of_emoji("three", {"1f431": '<path d="M0 0h8v8H0z"/>'}).content != view.content


def test_bytes_of_one_picture_are_not_those_of_the_next():
    assert len({content_of({}, {}, traces) for traces in ([b"12", b"3"], [b"1", b"23"], [b"123"], [b"123", b""])}) == 4


def test_a_view_of_an_earlier_version_says_its_content_once_it_was_prepared_again(photos):
    view = view_of(photos)
    file = view.folder / "view.json"
    facts = json.loads(file.read_text())
    said = facts.pop("content")
    file.write_text(json.dumps(facts))
    assert view_of(photos).content == said and json.loads(file.read_text())["content"] == said
