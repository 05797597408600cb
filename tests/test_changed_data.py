"""Searching a run whose folder of pictures has changed since: what is still there is found, the rest is told."""

import base64
import io
import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from click.testing import CliRunner
from PIL import Image
from untrained_run import make_untrained_run

import hybrid
from hybrid import contact_sheet
from hybrid.data.prepare import prepare
from hybrid.data.store import EncodedImages
from hybrid.image_index import ImageIndex
from hybrid.learned_view import learned_view
from hybrid.rundir import OtherData, RunDirectory
from hybrid.verbs import verbs
from launch.config import DataConfig
from launch.resolve import resolve
from workers.errors import RunError
from workers.settings import to_plain

ALL = 100


@pytest.fixture
def run(tmp_path):
    """A run over sixty pictures, with what its launcher notes of its data."""
    run = make_untrained_run(tmp_path)
    note(run)
    return run


def note(run):
    view = prepare(run.config().data)
    run.prepared_file.write_text(json.dumps({"fingerprint": view.fingerprint, "view": str(view.folder)}))
    return view


def change(run, **settings):
    config = run.config()
    run.config_file.write_text(tomli_w.dumps(to_plain(replace(config, data=replace(config.data, **settings)))))


def photos_of(run):
    return run.path.parent / "photos"


def searched(run):
    """Names of the pictures that a search looks through, in the order of the index."""
    loaded = hybrid.load(run.path)
    return [loaded.view.names[item] for item in loaded.index.items_I]


def remove(run, *names):
    for name in names:
        (photos_of(run) / name).unlink()
        (photos_of(run) / name).with_suffix(".txt").unlink(missing_ok=True)


def add(run, *names, tags="red"):
    for name in names:
        shutil.copy(photos_of(run) / "00.png", photos_of(run) / name)
        if tags:
            (photos_of(run) / name).with_suffix(".txt").write_text(tags)


def remark_of(source, what):
    return (
        f"the data ({source}) have changed since the run learned them: {what}. Held-out pictures that are still there "
        "were searched by what they were then."
    )


def test_data_that_have_not_changed_need_no_remark(run):
    result = hybrid.load(run.path).search("red")
    assert (result.remark, result.remedy) == ("", "")


def test_pictures_that_are_there_are_found_as_before_and_what_is_gone_or_new_is_counted(run):
    before, held_out = hybrid.load(run.path).search("red", ALL), searched(run)
    (of_training, *_) = sorted({f"{i:02}.png" for i in range(1, 60)} - set(held_out))
    gone, renamed, kept = held_out[0], held_out[1], set(held_out[2:])
    remove(run, gone, of_training)
    for suffix in (".png", ".txt"):
        (photos_of(run) / renamed).with_suffix(suffix).rename(photos_of(run) / f"renamed{suffix}")
    add(run, "new.png")
    add(run, "untagged.png", tags=None)  # which will be left out
    prepared = sorted((run.path.parent / "cache").glob("*/*"))
    settings = {path: path.read_bytes() for path in (run.prepared_file, *run.index.iterdir())}

    loaded = hybrid.load(run.path)
    after = loaded.search("red", ALL)
    assert [hit.name for hit in after.hits] == [hit.name for hit in before.hits if hit.name in kept]
    scores = {hit.name: (hit.item, hit.score, hit.is_true, hit.tags) for hit in before.hits}
    assert {hit.name: (hit.item, hit.score, hit.is_true, hit.tags) for hit in after.hits} == {
        name: scores[name] for name in kept
    }
    assert after.num_images == len(kept)
    assert after.remark == remark_of(run.config().data.source, "3 pictures are gone, 2 pictures are new")
    assert after.remedy == f"hybrid train --config {run.config_file}"
    assert sorted((run.path.parent / "cache").glob("*/*")) == prepared, "nothing was prepared of the other data"
    assert {path: path.read_bytes() for path in settings} == settings
    with pytest.raises(OtherData, match=r"not those that .*: 3 pictures are gone, 2 pictures are new"):
        hybrid.load(run.path).evaluate()


def test_data_that_are_as_they_were_again_are_searched_whole(run):
    before, gone = hybrid.load(run.path).search("red", ALL), searched(run)[0]
    (photos_of(run) / gone).rename(run.path.parent / "aside.png")
    assert len(hybrid.load(run.path).search("red", ALL).hits) == len(before.hits) - 1
    (run.path.parent / "aside.png").rename(photos_of(run) / gone)
    assert hybrid.load(run.path).search("red", ALL) == before


def test_what_was_left_out_is_not_new(run):
    add(run, "untagged.png", tags=None)
    (photos_of(run) / "broken.png").write_bytes(b"no picture")
    (photos_of(run) / "broken.txt").write_text("red")
    view = note(run)
    index = ImageIndex.load(run.index)
    ImageIndex(index.items_I, np.array(index.features_ID), view.fingerprint, index.step).save(run.index)
    assert hybrid.load(run.path).search("red").remark == ""
    add(run, "one more.png")
    assert "learned them: 1 picture is new. Held-out" in hybrid.load(run.path).search("red").remark


def test_edited_tags_are_neither_gone_nor_new(run):
    before = hybrid.load(run.path).search("red", ALL)
    (photos_of(run) / searched(run)[0]).with_suffix(".txt").write_text("blue")
    after = hybrid.load(run.path).search("red", ALL)
    assert after.hits == before.hits
    assert after.remark == (
        f"the data ({run.config().data.source}) were moved, copied or edited since the run learned them; held-out "
        "pictures were searched by what they were then."
    )
    assert (after.purpose, after.remedy) == ("To see whether they are the same", f"hybrid evaluate {run.path}")
    with pytest.raises(OtherData):
        hybrid.load(run.path).evaluate()  # which prepares them
    assert "learned them: 1 picture is tagged in another way. " in hybrid.load(run.path).search("red").remark


def test_of_a_choice_of_pictures_only_those_that_are_gone_are_counted(run):
    change(run, max_items=40)
    view = note(run)
    items_I = np.asarray(view.test_items)
    ImageIndex(items_I, np.ones((len(items_I), 8), np.float32), view.fingerprint, step=1).save(run.index)
    remove(run, view.names[int(items_I[0])])
    result = hybrid.load(run.path).search("red", ALL)
    assert "1 picture is gone. Held-out" in result.remark and len(result.hits) == len(items_I) - 1


def test_a_picture_that_the_manifest_lists_no_more_is_gone_though_its_file_is_there(tmp_path):
    run = make_untrained_run(tmp_path)
    names = [f"{number:02}.png" for number in range(60)]
    manifest = photos_of(run) / "manifest.tsv"
    manifest.write_text("".join(f"{name}\tred\n" for name in names))
    view = note(run)
    items_I = np.asarray(view.test_items)
    ImageIndex(items_I, np.ones((len(items_I), 8), np.float32), view.fingerprint, step=1).save(run.index)
    gone, missing = (view.names[item] for item in items_I[:2].tolist())
    (photos_of(run) / missing).unlink()
    manifest.write_text("".join(f"{name}\tred\n" for name in [*names, "new.png", "nowhere.png"] if name != gone))
    add(run, "new.png", tags=None)
    result = hybrid.load(run.path).search("plain, red", ALL)
    assert {hit.name for hit in result.hits} == {view.names[item] for item in items_I[2:].tolist()}
    assert "2 pictures are gone, 1 picture is new." in result.remark


def test_where_all_held_out_pictures_are_gone_there_is_nothing_to_search(run):
    remove(run, *(held_out := searched(run)))
    with pytest.raises(RunError, match=f"none of the {len(held_out)} held-out pictures .* is there any more"):
        hybrid.load(run.path).search("red", ALL)


def test_what_was_prepared_may_lie_in_another_cache(run):
    before = hybrid.load(run.path).search("red", ALL)
    shutil.move(run.path.parent / "cache", run.path.parent / "moved")
    change(run, cache_dir=str(run.path.parent / "moved"))
    add(run, "new.png")
    assert hybrid.load(run.path).search("red", ALL).hits == before.hits


def test_without_what_was_prepared_the_error_says_what_can_be_done(run):
    add(run, "new.png")
    shutil.rmtree(run.path.parent / "cache")
    place = json.loads(run.prepared_file.read_text())["fingerprint"]
    told = (
        rf"not in the cache any more \(.*{place}.*\), and the data .* Put the data back as they were .* train --config"
    )
    with pytest.raises(RunError, match=f"{told} {run.config_file}$"):
        hybrid.load(run.path).search("red")


def test_what_was_prepared_of_other_pictures_is_not_taken(run):
    prepared = json.loads(run.prepared_file.read_text())
    run.prepared_file.write_text(json.dumps({**prepared, "fingerprint": "another"}))
    add(run, "new.png")
    with pytest.raises(RunError, match="not in the cache any more"):
        hybrid.load(run.path).search("red")


def test_a_stopped_run_makes_its_index_of_what_it_learned_and_keeps_it_if_the_pictures_are_stored(run, monkeypatch):
    """Else the index would hold what is there now, under the name of what was there then."""
    before, whole = hybrid.load(run.path).search("red", ALL), ImageIndex.load(run.index)
    gone = searched(run)[0]
    remove(run, gone)
    shutil.rmtree(run.index)
    loaded = hybrid.load(run.path)
    view = loaded.learned.view
    stored, view.images = view.images, EncodedImages(view.pictures, view._numbers, view.images.size)
    expected = [hit.name for hit in before.hits if hit.name != gone]
    assert [hit.name for hit in loaded.search("red", ALL).hits] == expected
    assert not run.index.exists(), "what was read of the source is not kept"
    assert stored.is_decoded
    assert [hit.name for hit in hybrid.load(run.path).search("red", ALL).hits] == expected
    kept = ImageIndex.load(run.index)
    assert kept.items_I.tolist() == whole.items_I.tolist() and kept.fingerprint == whole.fingerprint


def test_the_command_that_learns_them_anew_keeps_the_settings_of_the_run(run):
    config = run.config()
    config = replace(config, train=replace(config.train, lr=0.123))
    run.config_file.write_text(tomli_w.dumps(to_plain(config)))
    add(run, "new.png")
    command = shlex.split(hybrid.load(run.path).search("red").remedy)
    assert command[:3] == ["hybrid", "train", "--config"]
    assert resolve(Path(command[3])) == config


def test_sheets_show_what_is_there_and_the_remark(run, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(contact_sheet, "_text", lambda draw, at, text, *rest, **named: drawn.append(text))
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr("hybrid.verbs._quiet", lambda: None)  # logging belongs to all tests of this process
    held_out = searched(run)
    remove(run, held_out[0])
    (photos_of(run) / held_out[1]).write_bytes(b"no picture any more")
    page, sheet = tmp_path / "found.html", tmp_path / "found.png"
    arguments = [str(run.path), "red", "--k", str(ALL), "--html", str(page), "--png", str(sheet)]
    told = CliRunner().invoke(verbs.commands["search"], arguments)
    assert told.exit_code == 0, told.output
    assert " ".join(told.stdout.split()).count("1 picture is gone.") == 1
    assert f"  hybrid train --config {run.config_file}" in told.stdout.splitlines(), "unbroken, to be copied"
    (remark,) = [text for text in drawn if "1 picture is gone." in text]
    assert remark == hybrid.load(run.path).search("red").remark
    html = page.read_text()
    tiles = re.findall(r"base64,([^\"]+)", html)
    assert len(tiles) == len(held_out) - 1 and held_out[0] not in html and "1 picture is gone." in html
    assert f"<code>hybrid train --config {run.config_file}</code>" in html
    for tile in tiles:
        Image.open(io.BytesIO(base64.b64decode(tile))).load()
    Image.open(sheet).load()
    result = CliRunner().invoke(verbs.commands["search"], [str(run.path), "red", "--k", str(ALL), "--json"])
    assert "1 picture is gone." in json.loads(result.stdout)["remark"]


def test_data_that_are_no_folder_are_searched_as_they_were_learned(run):
    known = learned_view(run, DataConfig(source="emoji", cache_dir=str(run.path.parent / "cache")), OtherData("other"))
    assert known.gone == frozenset() and known.remark == remark_of(
        "emoji", "pictures or tags were edited, or are prepared in another way"
    )
    index = ImageIndex.load(RunDirectory(run.path).index)
    assert known.there(index) is index
