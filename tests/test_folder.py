"""The user's own folders: sidecar files, manifests, and everything that is wrong with them."""

import errno
import json
import os
from pathlib import Path

import pytest
from PIL import Image
from tiny_data import write_photos

from hybrid.data.collection import Collection
from hybrid.data.folder import BAD_TAGS, UNREAD, WITHOUT_TAGS, build_folder
from hybrid.data.listing import scan
from hybrid.data.prepare import silent
from workers.errors import DataError


def collected(folder: Path, tmp_path: Path) -> Collection:
    target = tmp_path / "collection"
    target.mkdir(exist_ok=True)
    build_folder(target, scan(str(folder)), silent)
    return Collection.open(target)


def tags_by_name(collection: Collection) -> dict[str, set[str]]:
    offsets, values = collection.tags_of
    return {
        name: {collection.raw_tags[value] for value in values[offsets[i] : offsets[i + 1]]}
        for i, name in enumerate(collection.names)
    }


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(path, "PNG")
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    return tmp_path / "photos"


@pytest.mark.parametrize(
    ("sidecar", "text", "tags"),
    [
        ("x.txt", "Cat, small  dog ,cat\n\n ＣＡＴ\r\nfish,", {"cat", "small dog", "fish"}),
        ("x.txt", "\ufeffkatze", {"katze"}),
        ("x.txt", "a\rb", {"a", "b"}),
        ("x.json", '{"tags": ["Cat", "a, b", ""], "other": 1}', {"cat", "a, b"}),
        ("x.TXT", "cat", {"cat"}),
        ("x.Json", '{"tags": ["cat"]}', {"cat"}),
    ],
)
def test_sidecars(photos: Path, tmp_path: Path, sidecar: str, text: str, tags: set[str]) -> None:
    picture(photos / "x.jpg")
    (photos / sidecar).write_text(text, newline="")
    assert tags_by_name(collected(photos, tmp_path)) == {"x.jpg": tags}


def test_folders_below_and_both_sidecars(photos: Path, tmp_path: Path) -> None:
    picture(photos / "a" / "b.c" / "x.y.JPG").with_suffix(".txt").write_text("one")
    (photos / "a" / "b.c" / "x.y.json").write_text('{"tags": ["two"]}')
    picture(photos / ".hidden" / "x.jpg").with_suffix(".txt").write_text("no")
    picture(photos / ".x.jpg").with_suffix(".txt").write_text("no")
    collection = collected(photos, tmp_path)
    assert tags_by_name(collection) == {"a/b.c/x.y.JPG": {"one", "two"}}
    assert collection.split_keys == ["a/b.c/x.y"] and collection.groups is None


@pytest.mark.parametrize(
    ("sidecar", "content"),
    [
        ("x.txt", b"caf\xe9"),
        ("x.json", b'{"tags": "cat"}'),
        ("x.json", b'["cat"]'),
        ("x.json", b'{"tags": ["cat", 3]}'),
        ("x.json", b'{"tags": ["cat"'),
        ("x.json", b"[" * 200_000),
        ("x.txt", b"x," * 3_000_000),
    ],
)
def test_unreadable_tags_skip_one_picture(photos: Path, tmp_path: Path, sidecar: str, content: bytes) -> None:
    picture(photos / "x.jpg")
    picture(photos / "y.jpg").with_suffix(".txt").write_text("fine")
    (photos / sidecar).write_bytes(content)
    collection = collected(photos, tmp_path)
    assert tags_by_name(collection) == {"y.jpg": {"fine"}}
    assert list(collection.skipped[BAD_TAGS]) == ["x.jpg"] and sidecar in collection.skipped[BAD_TAGS]["x.jpg"]


@pytest.mark.parametrize(("number", "is_left_out"), [(errno.EIO, False), (errno.EACCES, True)])
def test_only_tags_that_will_be_unreadable_again_leave_a_picture_out(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, is_left_out: bool
) -> None:
    def fail(path: Path) -> str:
        if path.name == "x.txt":
            raise OSError(number, os.strerror(number))
        return "fine"

    for name in ("x.jpg", "y.jpg"):
        picture(photos / name).with_suffix(".txt").write_text("fine")
    monkeypatch.setattr("hybrid.data.folder._read_text", fail)
    if is_left_out:
        assert list(collected(photos, tmp_path).skipped[BAD_TAGS]) == ["x.jpg"]
    else:
        with pytest.raises(DataError, match=r"photos/x\.txt could not be read: .*Input/output error.*: run again"):
            collected(photos, tmp_path)


def test_facts_beside_a_picture_that_are_no_tags_are_passed_over(photos: Path, tmp_path: Path) -> None:
    for name in ("k", "m"):
        picture(photos / f"{name}.jpg").with_suffix(".json").write_text('{"width": 4, "caption": "a cat"}')
    (photos / "k.txt").write_text("cat")
    collection = collected(photos, tmp_path)
    assert tags_by_name(collection) == {"k.jpg": {"cat"}}
    assert collection.skipped[WITHOUT_TAGS] == {"m.jpg": "m.json has nothing under 'tags'"}
    assert not collection.skipped[BAD_TAGS]


def test_pictures_without_tags_are_skipped(photos: Path, tmp_path: Path) -> None:
    picture(photos / "none.jpg")
    picture(photos / "blank.jpg").with_suffix(".txt").write_text(" ,\n")
    picture(photos / "x.jpg").with_suffix(".txt").write_text("one")
    collection = collected(photos, tmp_path)
    assert collection.names == ["x.jpg"] and set(collection.skipped[WITHOUT_TAGS]) == {"none.jpg", "blank.jpg"}


def test_manifest_alone_says_what_belongs(photos: Path, tmp_path: Path) -> None:
    picture(photos / "x.jpg").with_suffix(".txt").write_text("ignored")
    lines = ["\ufeffimg/x.jpg\tOne\ttwo\tone", "", "img/y\tthree, four", "./img/x.jpg\tfive\r", "img/z.jpg\t\t"]
    (photos / "manifest.tsv").write_text("\n".join(lines), newline="")
    collection = collected(photos, tmp_path)
    assert tags_by_name(collection) == {"img/x.jpg": {"one", "two", "five"}, "img/y": {"three, four"}}
    assert list(collection.skipped[WITHOUT_TAGS]) == ["img/z.jpg"]
    assert collection.facts["repeated tags"] == 1


def test_bad_line_of_a_manifest_is_named_by_number(photos: Path, tmp_path: Path) -> None:
    (photos / "manifest.tsv").write_bytes(b"a.jpg\tone\nb.jpg\tcaf\xe9\n")
    collection = collected(photos, tmp_path)
    assert collection.names == ["a.jpg"] and list(collection.skipped[BAD_TAGS]) == ["manifest.tsv line 2"]


def test_names_that_are_not_utf8_survive(photos: Path, tmp_path: Path) -> None:
    raw = os.fsencode(photos) + b"/caf\xe9\n.png"
    try:
        picture(Path(os.fsdecode(raw)))
    except OSError:
        pytest.skip("this file system wants UTF-8")
    Path(os.fsdecode(raw)).with_suffix(".txt").write_text("one")
    (name,) = collected(photos, tmp_path).names
    assert os.fsencode(photos / name) == raw


@pytest.mark.parametrize("content", [{}, {"x.txt": "cat"}])
def test_folder_without_pictures(photos: Path, content: dict[str, str]) -> None:
    for name, text in content.items():
        (photos / name).write_text(text)
    with pytest.raises(DataError, match=r"no manifest\.tsv and no pictures"):
        scan(str(photos))


def test_runs_the_cache_and_texts_of_no_picture_do_not_count(photos: Path) -> None:
    write_photos(photos, 20)
    before = scan(str(photos))
    for name in ("run.json", "config.toml"):
        picture(photos / "runs" / "a" / "example.png").with_name(name).write_text("{}")
    picture(photos / "runs" / "a" / "more" / "x.png")
    picture(photos / "cache" / "x.png")
    (photos / "NOTES.txt").write_text("to do")
    after = scan(str(photos), photos / "cache")
    assert (after.key, after.images) == (before.key, before.images)


def test_tags_of_a_picture_called_run_are_no_run(photos: Path, tmp_path: Path) -> None:
    picture(photos / "sports" / "run.jpg").with_suffix(".json").write_text('{"tags": ["race"]}')
    picture(photos / "sports" / "jump.jpg").with_suffix(".txt").write_text("leap")
    assert tags_by_name(collected(photos, tmp_path)) == {"sports/run.jpg": {"race"}, "sports/jump.jpg": {"leap"}}


def test_links_are_followed_and_no_folder_is_entered_twice(photos: Path, tmp_path: Path) -> None:
    picture(tmp_path / "elsewhere" / "x.png").with_suffix(".txt").write_text("one")
    (photos / "link").symlink_to(tmp_path / "elsewhere")
    (photos / "other").symlink_to(tmp_path / "elsewhere")
    (photos / "round").symlink_to(photos)
    assert tags_by_name(collected(photos, tmp_path)) == {"link/x.png": {"one"}}


def test_folders_that_cannot_be_listed_are_named(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(photos / "x.png").with_suffix(".txt").write_text("one")
    picture(photos / "locked" / "y.png")
    whole, scandir = scan(str(photos)).key, os.scandir

    def refuse(path: str) -> object:
        if Path(path).name == "locked":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        collection, key = collected(photos, tmp_path), scan(str(photos)).key
        (photos / "x.png").unlink()
        with pytest.raises(DataError, match=r"no pictures.*locked cannot be listed: Permission denied"):
            scan(str(photos))
    assert collection.names == ["x.png"] and collection.skipped[UNREAD] == {"locked": "Permission denied"}
    assert key != whole


def test_no_such_folder() -> None:
    with pytest.raises(DataError, match="nowhere is not a folder"):
        scan("nowhere")


def test_any_change_is_noticed(photos: Path) -> None:
    write_photos(photos, 3)
    keys = {scan(str(photos)).key}
    changes = [
        lambda: (photos / "a000.txt").write_text("other tags"),
        lambda: (photos / "a001.png").write_bytes(b"broken"),
        lambda: (photos / "a002.json").write_text(json.dumps({"tags": ["more"]})),
        lambda: (photos / "a002.png").rename(photos / "b.png"),
        lambda: (photos / "a000.txt").unlink(),
        lambda: (photos / "manifest.tsv").write_text("a001.png\tone\nshare/x.png\ttwo"),
        lambda: (photos / "a001.png").write_bytes(b"broken otherwise"),
        lambda: picture(photos / "share" / "x.png"),
    ]
    for change in changes:
        change()
        keys.add(scan(str(photos)).key)
    assert len(keys) == len(changes) + 1
    assert scan(str(photos)).key in keys


@pytest.mark.parametrize("has_manifest", [False, True])
def test_a_picture_that_was_locked_is_looked_at_again_when_it_is_not(photos, monkeypatch, has_manifest):
    write_photos(photos, 2)
    if has_manifest:
        (photos / "manifest.tsv").write_text("a000.png\tone\n")
    with monkeypatch.context() as patch:
        patch.setattr("os.access", lambda path, mode: Path(path).name != "a000.png")
        locked = scan(str(photos)).key
    assert scan(str(photos)).key != locked


@pytest.mark.parametrize("text", ["x.png one two\n", "\n\nx.png, one, two\ny.png, one\n"])
def test_a_manifest_without_tabs_is_an_error_that_names_the_line(photos: Path, tmp_path: Path, text: str) -> None:
    (photos / "manifest.tsv").write_text(text)
    with pytest.raises(DataError, match=rf"manifest\.tsv: no tab in line {3 if text[0] == chr(10) else 1},"):
        collected(photos, tmp_path)


def test_a_line_of_a_manifest_without_a_tab_is_named(photos: Path, tmp_path: Path) -> None:
    (photos / "manifest.tsv").write_text("x.png\tone\ny.png two\nz.png\t\nx.png\n")
    collection = collected(photos, tmp_path)
    assert collection.names == ["x.png"]
    assert collection.skipped[WITHOUT_TAGS] == {"y.png two": "no tab in line 2", "z.png": "no tag is given for it"}


def test_odd_names_in_a_manifest_do_no_harm(photos: Path) -> None:
    picture(photos / "x.png")
    (photos / "manifest.tsv").write_bytes(
        b"x.png\tone\nno\x00such\ttwo\n\ncaf\xe9.png\tthree\n" + b"a" * 5000 + b"\t4\n"
    )
    assert scan(str(photos)).images == []
