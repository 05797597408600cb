"""A view is what its settings say, counted by hand, and says when its files are damaged."""

import errno
import io
import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_data import png_bytes, write_photos

from hybrid.augment import Augmentation
from hybrid.data.images import BadImage, decode_square
from hybrid.data.prepare import prepare, silent, stored_size
from hybrid.data.splits import hash_fraction
from hybrid.data.stats import stats
from hybrid.data.view import View, checked_head_folder
from hybrid.data.vocabulary import TagVocabulary
from launch.config import DataConfig
from workers.errors import ConfigError, DataError


def prepared(tmp_path: Path, **settings: object) -> View:
    photos = tmp_path / "photos"
    if not photos.exists():
        write_photos(photos, 60)
        (photos / "a001.png").write_bytes(b"")
        (photos / "a002.png").write_bytes(png_bytes(20_990, 29_700))
        (photos / "a003.png").write_bytes((photos / "a003.png").read_bytes()[:60])
        (photos / "a004.txt").unlink()
    config = {"source": f"folder:{photos}", "cache_dir": str(tmp_path / "cache"), "image_size": 12, **settings}
    return prepare(DataConfig(**config))


def true_tags(view: View, item: int) -> set[str]:
    number = int(view.names[item].removeprefix("a").removesuffix(".png"))
    return {"square", f"own {number % 7}"} | ({"rare"} if number % 3 == 0 else set())


def test_items_tags_and_pictures_belong_together(tmp_path: Path) -> None:
    view = prepared(tmp_path)
    assert len(view) == len(view.names) == len(view.images) == 56
    for item, name in enumerate(view.names):
        known = {view.vocabulary.tags[i] for i in view.item_tags[view.item_offsets[item] : view.item_offsets[item + 1]]}
        assert known == {tag for tag in true_tags(view, item) if view.vocabulary.id_of(tag) is not None}
        assert len(known) + view.num_unseen_tags[item] == len(true_tags(view, item))
        number = int(name[1:4])
        assert np.all(view.images.read(np.array([item]))[0] == [number, 40, 200])
        assert view.describe(item) == {"name": name, "title": name[:4]}
        assert view.png(item, 8).startswith(b"\x89PNG")


def test_counts_and_marginal_come_from_training_items(tmp_path: Path) -> None:
    view = prepared(tmp_path, hold_out_fraction=0.5)
    counts = dict.fromkeys(view.vocabulary.tags, 0)
    marginal = dict.fromkeys(view.vocabulary.tags, 0.0)
    for item in view.train_items:
        for tag in true_tags(view, int(item)):
            counts[tag] += 1
            marginal[tag] += 1 / len(true_tags(view, int(item))) / len(view.train_items)
    assert view.vocabulary.counts.tolist() == list(counts.values())
    assert view.marginal.tolist() == pytest.approx(list(marginal.values()))
    assert view.marginal.sum() == pytest.approx(1)
    assert np.all(np.diff(view.vocabulary.counts) <= 0) and min(counts.values()) > 0
    assert len(view.test_items) == sum(hash_fraction(Path(name).stem) < 0.5 for name in view.names)


def test_bad_pictures_are_counted_named_and_explained(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        view = prepared(tmp_path)
    assert view.dropped["items with unreadable pictures"] == 3 and view.dropped["items without tags"] == 1
    lines = [line.split("\t") for line in view.skipped_path.read_text().splitlines()]
    found = {name: why for _, name, why in lines}
    assert set(found) == {"a001.png", "a002.png", "a003.png", "a004.png"}
    assert "empty" in found["a001.png"] and "gigantic" in found["a002.png"] and "broken" in found["a003.png"]
    assert all(name in caplog.text for name in found)


@pytest.mark.parametrize(
    "purged",
    ["collections/*/raw_tags.txt", "collections/*/collection.json", "images/*/bad.json", "views/*/skipped.tsv"],
)
def test_what_was_purged_from_the_cache_is_named_with_the_folder_to_remove(tmp_path: Path, purged: str) -> None:
    view = prepared(tmp_path)
    (file,) = (tmp_path / "cache").glob(purged)
    file.unlink()
    if not purged.startswith("views"):
        shutil.rmtree(view.folder)
    config = DataConfig(source=view.source, cache_dir=str(tmp_path / "cache"), image_size=12)
    with pytest.raises(DataError, match=rf"prepared data are damaged.*{file.name}.*Remove {file.parent}: it is made"):
        prepare(config)
    shutil.rmtree(file.parent)
    assert prepare(config).content == view.content


def test_preparing_again_gives_the_same_view_without_work(tmp_path: Path) -> None:
    view = prepared(tmp_path)
    said: list[str] = []
    config = DataConfig(source=view.source, cache_dir=str(tmp_path / "cache"), image_size=12)
    again = prepare(config, lambda text, done, total: said.append(text))
    assert again.folder == view.folder and set(said) <= {"listing files"}
    (tmp_path / "photos" / "a005.txt").write_text("changed")
    assert prepare(config).fingerprint != view.fingerprint


def test_a_change_of_tags_decodes_no_picture_again(tmp_path: Path) -> None:
    view = prepared(tmp_path)
    config = DataConfig(source=view.source, cache_dir=str(tmp_path / "cache"), image_size=12)
    for path, is_decoded in (("a005.txt", False), ("a006.png", True)):
        said: list[str] = []
        (tmp_path / "photos" / path).write_bytes(b"changed")
        again = prepare(config, lambda text, done, total, said=said: said.append(text))
        assert again.fingerprint != view.fingerprint and ("decoding pictures" in said) == is_decoded


def test_pictures_that_could_not_be_read_make_other_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, size: int) -> np.ndarray:
        if path.name == "a010.png":
            raise BadImage("broken")
        return decode_square(path, size)

    with monkeypatch.context() as patch:
        patch.setattr("hybrid.data.pictures.decode_square", fail)
        without = prepared(tmp_path)
    shutil.rmtree(tmp_path / "cache")
    view = prepared(tmp_path)
    assert len(view) == len(without) + 1 and view.fingerprint != without.fingerprint


@pytest.mark.parametrize("is_stored", [True, False])
@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), MemoryError()], ids=["disk", "memory"])
def test_trouble_of_the_machine_leaves_no_picture_out_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_stored: bool, error: Exception
) -> None:
    if not is_stored:
        monkeypatch.setattr("hybrid.data.image_cache.MAX_BYTES", 0)
    open_image = Image.open

    def fail(path: Path, **options: object) -> Image.Image:
        if Path(path).name == "a010.png":
            raise error
        return open_image(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Image, "open", fail)
        with pytest.raises(DataError, match=r"photos/a010\.png could not be read: .*: run again"):
            prepared(tmp_path)
    assert not list((tmp_path / "cache" / "images").glob("folder-*"))
    assert "a010.png" in prepared(tmp_path).names


def test_data_that_are_not_wanted_are_refused_before_any_are_read(tmp_path: Path) -> None:
    view = prepared(tmp_path)
    config = DataConfig(source=view.source, cache_dir=str(tmp_path / "cache"), image_size=12)

    def refuse_others(folder: Path) -> None:
        if folder != view.folder:
            raise LookupError(folder)

    assert prepare(config, silent, refuse_others).folder == view.folder
    (tmp_path / "photos" / "a006.png").write_bytes(b"changed")
    before = sorted((tmp_path / "cache").glob("*/*"))
    with pytest.raises(LookupError):
        prepare(config, silent, refuse_others)
    assert sorted((tmp_path / "cache").glob("*/*")) == before


@pytest.mark.parametrize("is_copy", [False, True])
def test_pictures_that_show_the_same_are_on_one_side(tmp_path: Path, is_copy: bool) -> None:
    photos = tmp_path / "photos"
    for name in write_photos(photos, 40):
        if is_copy:
            shutil.copy(photos / name, photos / f"b{name}")
            shutil.copy((photos / name).with_suffix(".txt"), (photos / f"b{name}").with_suffix(".txt"))
        else:
            with Image.open(photos / name) as image:
                image.save((photos / name).with_suffix(".bmp"))
    view = prepared(tmp_path, hold_out_fraction=0.4)
    parts = [view.train_items, view.valid_items, view.test_items]
    sides = [{view.names[item].removeprefix("b")[:4] for item in part} for part in parts]
    assert sum(map(len, parts)) == 80 and sum(map(len, sides)) == len(set.union(*sides)) == 40


@pytest.mark.parametrize(
    "settings", [{"min_count": 9}, {"max_tags": 3}, {"max_items": 30}, {"hold_out_fraction": 0.4}, {"image_size": 40}]
)
def test_settings_that_matter_make_another_view(tmp_path: Path, settings: dict[str, object]) -> None:
    assert prepared(tmp_path, **settings).fingerprint != prepared(tmp_path).fingerprint
    assert prepared(tmp_path, loader_processes=3).fingerprint == prepared(tmp_path).fingerprint


def test_dropped_tags_are_counted_and_stay_as_unseen(tmp_path: Path) -> None:
    view = prepared(tmp_path, max_tags=2)
    assert view.vocabulary.tags == ["square", "rare"]
    assert sum(count for what, count in view.dropped.items() if what.startswith("tags")) == 7
    assert set(view.num_unseen_tags.tolist()) == {1}


def test_training_items_without_known_tags_do_not_train(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    write_photos(photos, 40)
    for path in photos.glob("*.txt"):
        path.write_text("rare" if int(path.stem[1:]) % 4 == 0 else path.stem)
    view = prepared(tmp_path, min_count=2)
    assert view.vocabulary.tags == ["rare"]
    assert np.all(np.diff(view.item_offsets)[view.train_items] == 1)
    assert view.dropped["training items without known tags"] > 0
    assert len(view.test_items) > 0 and np.any(np.diff(view.item_offsets)[view.test_items] == 0)


def test_nothing_to_train_on(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    write_photos(photos, 5)
    for path in photos.glob("*.txt"):
        path.unlink()
    left_out = r"no picture with tags\. Left out: 5 items without tags \(the first, 'a000\.png': .*manifest\.tsv"
    with pytest.raises(DataError, match=left_out):
        prepared(tmp_path)
    (photos / "a000.txt").write_text("one")
    (photos / "a000.png").write_bytes(b"broken")
    with pytest.raises(DataError, match="no picture with a known tag"):
        prepared(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("manifest.tsv", "wrong/a.png\tone\n", r"1 items with unreadable pictures .*'wrong/a\.png': no such file"),
        ("a000.json", '["cat"]', r"1 items with unreadable tags .*a000\.json: expected .*list of strings"),
    ],
)
def test_an_error_says_why_no_picture_is_left(tmp_path: Path, name: str, content: str, why: str) -> None:
    write_photos(tmp_path / "photos", 1)
    (tmp_path / "photos" / name).write_text(content)
    with pytest.raises(DataError, match=why):
        prepared(tmp_path)


def test_an_error_says_why_no_tag_is_left(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"left to train on.* tags on fewer than 100 training items\.$"):
        prepared(tmp_path, min_count=100)


def test_one_picture_is_enough(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 1)
    for path in list((tmp_path / "photos").iterdir()):
        path.rename(path.with_stem("1f431"))  # the hash of this name is 0.67
    view = prepared(tmp_path, hold_out_fraction=0.01)
    assert len(view.train_items) == 1 and not len(view.test_items)
    assert stats(view)["tags"] == 3


def test_designs_are_of_emoji_alone(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="only the emoji"):
        prepared(tmp_path, hold_out_design="noto")


def test_head_arrays(tmp_path: Path) -> None:
    view = prepared(tmp_path)
    folder = checked_head_folder(view)
    arrays = {name: np.load(folder / f"{name}.npy") for name in ("counts", "marginal", "item_offsets", "item_tags")}
    assert arrays["counts"].dtype == np.int64 and arrays["marginal"].dtype == np.float64
    assert arrays["item_offsets"].dtype == np.int64 and arrays["item_tags"].dtype == np.int32
    assert np.array_equal(arrays["counts"], view.vocabulary.counts)
    np.save(folder / "item_offsets.npy", arrays["item_offsets"][:-1])
    with pytest.raises(DataError, match="damaged"):
        checked_head_folder(View(folder))


@pytest.mark.parametrize("name", ["view.json", "train_items.npy", "vocabulary.tsv", "image_rows.npy"])
def test_damaged_views_say_so(tmp_path: Path, name: str) -> None:
    view = prepared(tmp_path)
    (view.folder / name).write_bytes(b"{}"[:1])
    with pytest.raises(DataError, match=view.folder.name):
        _ = View(view.folder).vocabulary


@pytest.mark.parametrize(
    "name", ["view.json", "train_items.npy", "item_tags.npy", "vocabulary.tsv", "items.jsonl", "picture_names.json"]
)
def test_emptied_files_of_a_view_are_named_as_damage(tmp_path: Path, name: str) -> None:
    """A disk that filled up, or a copy that was cut short, leaves files of 0 bytes."""
    view = prepared(tmp_path)
    (view.folder / name).write_bytes(b"")
    with pytest.raises(DataError, match=view.folder.name):
        opened = View(view.folder)
        _ = opened.vocabulary, opened.describe(3)


@pytest.mark.parametrize("row", [-1, 59])
def test_a_picture_that_is_not_stored_is_damage(tmp_path: Path, row: int) -> None:
    view = prepared(tmp_path)
    rows = np.load(view.folder / "image_rows.npy")
    rows[3] = row
    np.save(view.folder / "image_rows.npy", rows)
    with pytest.raises(DataError, match=f"59 pictures, .* names.* {row}.*made again"):
        View(view.folder)


def test_pictures_removed_from_the_cache(tmp_path: Path) -> None:
    view = prepared(tmp_path)
    (path,) = (tmp_path / "cache" / "images").glob("*/images.npy")
    path.unlink()
    with pytest.raises(DataError, match="made again") as error:
        View(view.folder)
    for folder in (path.parent, view.folder):  # as the error says
        assert f"{folder}" in str(error.value)
        shutil.rmtree(folder)
    assert len(prepared(tmp_path)) == 56


@pytest.mark.parametrize("is_stored", [True, False])
def test_a_picture_that_is_gone_is_shown_as_it_was_stored(tmp_path: Path, is_stored: bool, monkeypatch) -> None:
    if not is_stored:
        monkeypatch.setattr("hybrid.data.image_cache.MAX_BYTES", 0)
    view = prepared(tmp_path)
    item = view.names.index("a010.png")
    (tmp_path / "photos" / "a010.png").unlink()
    with Image.open(io.BytesIO(view.png(item, 128)), formats=["PNG"]) as image:
        expected = (10, 40, 200) if is_stored else (200, 200, 200)
        assert image.size == (16, 16) and image.getpixel((8, 8)) == expected


def test_stats_are_plain_values(tmp_path: Path) -> None:
    view = prepared(tmp_path)
    report = json.loads(json.dumps(stats(view)))
    assert report["items"] == 56 == report["training items"] + report["validation items"] + report["test items"]
    assert report["tags"] == len(view.vocabulary) and report["left out"] == view.dropped
    assert next(iter(report["most frequent tags"])) == "square"


def test_stats_name_the_first_of_what_was_left_out_and_where_all_are_listed(tmp_path: Path) -> None:
    view = prepared(tmp_path)
    report = stats(view)
    listed = [line.split("\t") for line in view.skipped_path.read_text().splitlines()]
    unreadable = [(name, found) for reason, name, found in listed if reason == "with unreadable pictures"]
    assert len(unreadable) == 3 and len(listed) == 4
    for name, found in unreadable:
        assert report["left out, the first"][name] == f"with unreadable pictures: {found}"
    assert len(report["left out, the first"]) == 4 and report["left out, all"] == str(view.skipped_path)


def test_what_was_left_out_is_logged_but_warns_nobody_who_opens_the_data(tmp_path: Path, caplog) -> None:
    caplog.set_level(logging.INFO)
    view = prepared(tmp_path)
    told = [record for record in caplog.records if record.name == "hybrid.data.prepare"]
    for reason, count in view.dropped.items():
        assert f"left out: {reason}: {count:,}" in [record.getMessage() for record in told]
    assert view.dropped and max(record.levelno for record in told) == logging.INFO


@pytest.mark.parametrize(("image_size", "size"), [(8, 16), (32, 48), (48, 64), (64, 96), (224, 304)])
def test_stored_pictures_are_larger_than_the_trunk_sees(image_size: int, size: int) -> None:
    assert stored_size(image_size) == size


def test_stored_pictures_are_shrunk_as_little_as_is_said() -> None:
    default, smallest = DataConfig().image_size, Augmentation().scale[0]
    shrinks = {size: stored_size(size) / size for size in range(8, 1025)}
    augmented = {size: factor / smallest for size, factor in shrinks.items()}
    assert all(factor >= 4 / 3 and stored_size(size) % 16 == 0 for size, factor in shrinks.items())
    assert max(size for size, factor in shrinks.items() if factor >= 2) == 17 - 1
    assert max(size for size, factor in augmented.items() if factor >= 2) == 86 - 1
    assert default == 48 and augmented[default] < 2
    assert max(shrinks, key=lambda size: shrinks[size]) == 13
    assert (round(shrinks[13], 1), round(augmented[13], 1)) == (2.5, 3.3)


def test_describing_data_loads_nothing_heavy(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 5)
    verb = ["data-stats", f"folder:{tmp_path / 'photos'}", "--cache-dir", str(tmp_path / "cache")]
    code = (
        "import sys; from hybrid.verbs import verbs; "
        f"verbs({verb!r}, standalone_mode=False); "
        "sys.exit(', '.join({'torch', 'matplotlib', 'faiss', 'numba'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], timeout=120, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "training items" in done.stdout


def test_vocabulary_of_the_view_is_the_documented_file(tmp_path: Path) -> None:
    view = prepared(tmp_path)
    assert TagVocabulary.load(view.folder / "vocabulary.tsv").tags == view.vocabulary.tags


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-20],
        lambda text: text.replace("num_tags=", "num_tags=1", 1),
        lambda text: text.replace("\n", "\n\n", 1),
        lambda text: text.replace("square", "\udcff", 1),
        None,
    ],
    ids=["cut", "another header", "another line", "not UTF-8", "gone"],
)
def test_a_vocabulary_that_is_not_whole_is_not_copied(tmp_path: Path, damage) -> None:
    view, target = prepared(tmp_path), tmp_path / "copy.tsv"
    view.save_vocabulary(target)
    source = view.folder / "vocabulary.tsv"
    assert target.read_bytes() == source.read_bytes()
    target.unlink()
    if damage is None:
        source.unlink()
    else:
        source.write_bytes(damage(source.read_text()).encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=r"prepared data are damaged: .*vocabulary.tsv.* Remove"):
        view.save_vocabulary(target)
    assert not target.exists()
