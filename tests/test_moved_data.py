"""A run goes on, and is asked, where its folder of pictures was moved or copied, if that holds what was learned."""

import io
import json
import os
import re
import shutil
from dataclasses import replace

import pytest
import tomli_w
from click.testing import CliRunner
from PIL import Image
from shapes import hybrid as run_hybrid
from shapes import train_options, write_shapes
from untrained_run import make_untrained_run

import hybrid
import hybrid.supervised
from hybrid.learned_data import prepare_learned
from hybrid.rundir import OtherData, RunDirectory
from hybrid.supervised import run_prepare
from launch.cli import main
from launch.config import DataConfig, RunConfig
from launch.resolve import resolve_resumed
from launch.run_settings import propose_config, read_config
from launch.train import _not_kept
from workers.errors import ConfigError, RunError
from workers.settings import to_plain

ALL = 100


class Told:
    """Takes what a process tells its launcher."""

    def __init__(self):
        self.notes, self.progress_of = [], set()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def tell(self, kind, **content):
        self.notes.append(content["text"])

    def progress(self, phase, text="", done=0, total=0):
        self.progress_of.add(text)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    make_untrained_run(folder)
    return folder


@pytest.fixture
def run(tmp_path, made, monkeypatch):
    """A run of sixty pictures in folders of its own, prepared as its launcher has it prepared."""
    shutil.copytree(made / "photos", tmp_path / "photos")
    shutil.copytree(made / "run", tmp_path / "run")
    run, photos, cache = RunDirectory(tmp_path / "run"), f"folder:{tmp_path / 'photos'}", str(tmp_path / "cache")
    write(run, replace(run.config(), data=replace(run.config().data, source=photos, cache_dir=cache)))
    prepared(run, monkeypatch)
    return run


def write(run, config):
    run.config_file.write_text(tomli_w.dumps(to_plain(config)))


def prepared(run, monkeypatch):
    told = Told()
    monkeypatch.setattr(hybrid.supervised, "_supervised", lambda link, lifeline_fd: told)
    run_prepare(run.path, "", 0)
    return told


def place(run, name):
    return run.path.parent / name


def source(run, name):
    return f"folder:{place(run, name)}"


def at(run, name):
    """Settings of the run with its data at another place."""
    return replace(run.config().data, source=source(run, name))


def copy_without_times(run, name="copy"):
    shutil.copytree(place(run, "photos"), place(run, name), copy_function=shutil.copyfile)
    return place(run, name)


def forget_content(run):
    """As an earlier version left run and view."""
    noted = json.loads(run.prepared_file.read_text())
    del noted["content"]
    run.prepared_file.write_text(json.dumps(noted))
    facts = place(run, "cache") / "views" / noted["fingerprint"] / "view.json"
    facts.write_text(
        json.dumps({name: fact for name, fact in json.loads(facts.read_text()).items() if name != "content"})
    )


def edit_pixel(folder):
    with Image.open(folder / "05.png") as image:
        image.load()
    image.putpixel((3, 3), (255, 255, 255))
    image.save(folder / "05.png")


def rename(folder):
    (folder / "05.png").rename(folder / "xx.png")
    (folder / "05.txt").rename(folder / "xx.txt")


CHANGES = {
    "1 picture is changed": edit_pixel,
    "1 picture is tagged in another way": lambda folder: (folder / "05.txt").write_text("blue, plain"),
    "1 picture is gone, 1 picture is new": rename,
    "1 picture is gone": lambda folder: (folder / "05.png").unlink(),
}


def test_a_copy_without_times_in_the_old_place_is_resumed_and_evaluated(run, monkeypatch):
    copy = copy_without_times(run)
    shutil.rmtree(place(run, "photos"))
    copy.rename(place(run, "photos"))
    assert hybrid.load(run.path).evaluate()["test"]["items"] > 0
    prepared(run, monkeypatch)


@pytest.mark.parametrize("change", [None, *CHANGES])
def test_a_copy_elsewhere_is_the_runs_if_it_holds_the_same(run, change):
    copy = copy_without_times(run, "my copy")
    if change is None:
        learned = json.loads(run.prepared_file.read_text())["view"]
        assert str(prepare_learned(run, at(run, "my copy")).folder) != learned
        return
    CHANGES[change](copy)
    told = (
        rf"not those that .* learned: {change}\. .* \(in any place\), or .*: "
        r"hybrid train --config .*/config\.toml --data 'folder:.*/my copy'$"
    )
    with pytest.raises(OtherData, match=told):
        prepare_learned(run, at(run, "my copy"))
    with pytest.raises(OtherData, match=change):
        hybrid.load(run.path, data=source(run, "my copy")).evaluate()


def test_untagged_pictures_beside_make_no_other_data(run):
    shutil.copy(place(run, "photos") / "00.png", place(run, "photos") / "untagged.png")
    assert hybrid.load(run.path).evaluate()


@pytest.mark.parametrize(
    ("picture", "name", "tags"),
    [
        (None, "new.txt", ""),
        (None, "new.json", '{"camera": "none"}'),
        (None, "new.json", "{"),
        (b"no picture", "new.txt", "red"),
    ],
    ids=["no tag", "other facts", "unreadable tags", "broken"],
)
def test_new_pictures_that_training_would_leave_out_make_no_other_data(run, picture, name, tags):
    photos = place(run, "photos")
    (photos / "new.png").write_bytes(picture or (photos / "00.png").read_bytes())
    (photos / name).write_text(tags)
    assert prepare_learned(run, run.config().data)
    (photos / "tagged.png").write_bytes((photos / "00.png").read_bytes())
    (photos / "tagged.txt").write_text("red")
    with pytest.raises(OtherData, match="1 picture is new"):
        prepare_learned(run, run.config().data)


def test_a_picture_that_was_left_out_is_known_again_whatever_its_name(run, monkeypatch):
    photos, odd = place(run, "photos"), os.fsdecode(b"odd-\xff  name")
    whole = (photos / "00.png").read_bytes()
    (photos / f"{odd}.png").write_bytes(whole[: len(whole) // 2])  # its header is sound
    (photos / f"{odd}.txt").write_text("red")
    run.prepared_file.unlink()
    prepared(run, monkeypatch)
    copy_without_times(run)
    assert prepare_learned(run, at(run, "copy"))


def test_pictures_that_are_gone_or_new_are_noticed_before_any_is_prepared(run):
    before = sorted(place(run, "cache").glob("*/*"))
    for change in ("1 picture is gone, 1 picture is new", "1 picture is gone"):
        CHANGES[change](copy := copy_without_times(run))
        with pytest.raises(OtherData, match=change):
            prepare_learned(run, at(run, "copy"))
        shutil.rmtree(copy)
    assert sorted(place(run, "cache").glob("*/*")) == before


def test_on_a_machine_without_the_cache_the_note_of_the_run_decides(run):
    shutil.rmtree(place(run, "cache"))
    copy = copy_without_times(run)
    assert prepare_learned(run, at(run, "copy"))
    (copy / "05.png").unlink()
    with pytest.raises(
        OtherData, match="learned: they hold 59 pictures with 5 tags, and held 60 pictures with 5 tags then"
    ):
        prepare_learned(run, at(run, "copy"))
    shutil.copy(place(run, "photos") / "05.png", copy / "05.png")
    edit_pixel(copy)
    with pytest.raises(OtherData, match="learned: pictures or tags were edited, or are prepared in another way"):
        prepare_learned(run, at(run, "copy"))


def test_a_run_of_an_earlier_version_knows_its_data_by_place_and_times_or_by_the_cache(run, monkeypatch):
    forget_content(run)
    prepare_learned(run, run.config().data)
    copy_without_times(run)
    assert prepare_learned(run, at(run, "copy")), "the view that it learned is still in the cache"
    edit_pixel(place(run, "copy"))
    with pytest.raises(OtherData, match="1 picture is changed"):
        prepare_learned(run, at(run, "copy"))
    shutil.rmtree(place(run, "cache"))
    assert prepare_learned(run, run.config().data), "the same place and times"
    shutil.rmtree(place(run, "cache"))
    shutil.rmtree(place(run, "copy"))
    copy_without_times(run)
    told = "not known to be .* moved, copied or edited since.* of an earlier version: place, names, sizes and times of"
    with pytest.raises(OtherData, match=told):
        prepare_learned(run, at(run, "copy"))
    prepared(run, monkeypatch)
    assert prepare_learned(run, at(run, "copy")), "a resume has noted the content"


def test_an_old_run_without_stored_pictures_does_not_take_files_as_they_are_now_for_what_it_learned(run, monkeypatch):
    monkeypatch.setattr("hybrid.data.image_cache.MAX_BYTES", 0)
    shutil.rmtree(place(run, "cache"))
    run.prepared_file.unlink()
    prepared(run, monkeypatch)
    forget_content(run)
    copy_without_times(run)
    with pytest.raises(OtherData, match="prepared in another way"):
        prepare_learned(run, at(run, "copy"))
    assert prepare_learned(run, run.config().data)


def test_a_resume_says_where_the_data_are_now_and_the_run_keeps_it(run, monkeypatch):
    place(run, "photos").rename(place(run, "moved"))
    propose_config(run.path, replace(run.config(), data=at(run, "moved"), workers=1))
    told = prepared(run, monkeypatch)
    assert f"{source(run, 'moved')} holds the data that the run learned" in told.notes
    assert "decoding pictures" in told.progress_of, "prepared anew, as any folder"
    assert run.config() == replace(run.config(), data=at(run, "moved"), workers=run.config().workers)
    assert json.loads(run.prepared_file.read_text())["num_items"] == 60
    assert hybrid.load(run.path).search("red", ALL).remark == ""


def test_a_refused_place_is_not_kept(run, monkeypatch):
    edit_pixel(copy_without_times(run))
    before, noted = run.config_file.read_bytes(), run.prepared_file.read_bytes()
    propose_config(run.path, replace(run.config(), data=at(run, "copy")))
    with pytest.raises(OtherData, match="1 picture is changed"):
        prepared(run, monkeypatch)
    assert run.config_file.read_bytes() == before and run.prepared_file.read_bytes() == noted


def test_a_folder_that_is_gone_is_told_with_the_command_that_says_where_it_is(run):
    place(run, "photos").rename(place(run, "moved"))
    told = rf"no such folder\. If it was moved, .*hybrid train --resume {run.path} --data folder:PATH"
    for ask in (lambda loaded: loaded.evaluate(), lambda loaded: loaded.search("red")):
        with pytest.raises(RunError, match=told):
            ask(hybrid.load(run.path))
    resumed = CliRunner().invoke(main, ["train", "--resume", str(run.path)])
    assert resumed.exit_code == 2 and re.search(told, resumed.output)


def test_a_moved_folder_is_searched_with_what_was_learned_and_shown_where_it_is(run):
    before = hybrid.load(run.path).search("red", ALL)
    place(run, "photos").rename(place(run, "moved"))
    cached = sorted(place(run, "cache").glob("*/*"))
    loaded = hybrid.load(run.path, data=source(run, "moved"))
    after = loaded.search("red", ALL)
    assert after.hits == before.hits and sorted(place(run, "cache").glob("*/*")) == cached
    assert after.remedy == f"hybrid evaluate {run.path} --data {source(run, 'moved')}"
    with Image.open(io.BytesIO(loaded.learned.view.png(after.hits[0].item, 20))) as shown:
        assert shown.size == (20, 16), "the file itself, not what was stored of it"
    hybrid.load(run.path, data=source(run, "moved")).evaluate()
    assert hybrid.load(run.path, data=source(run, "moved")).search("red", ALL).remark == ""
    assert read_config(run.path).data.source == source(run, "photos"), "who only asks changes no setting"


def test_data_of_another_kind_are_refused(run):
    for data in ("emoji", "photos"):
        with pytest.raises(ConfigError, match=rf"data\.source = '{data}', but .* can only be another folder:PATH"):
            hybrid.load(run.path, data=data)
        resumed = CliRunner().invoke(main, ["train", "--resume", str(run.path), "--data", data])
        assert resumed.exit_code == 2 and "folder:PATH" in resumed.output
    write(run, RunConfig())
    with pytest.raises(ConfigError, match="the run learned 'emoji': these are fetched, and cannot be elsewhere"):
        hybrid.load(run.path, data=source(run, "photos"))


def test_evaluate_and_search_pass_the_place_on_and_refuse_what_is_none(run, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "launch.verbs_asking.run_deep_verb", lambda verb, arguments, options: asked.append(options["--data"])
    )
    monkeypatch.chdir(tmp_path)
    for verb in (["evaluate", str(run.path)], ["search", str(run.path), "red"]):
        result = CliRunner().invoke(main, [*verb, "--data", "folder:photos"])
        assert asked.pop() == source(run, "photos"), result.output
        for wrong, told in (("photos", "is not folder:PATH"), ("folder:fotos", "there is no such folder")):
            refused = CliRunner().invoke(main, [*verb, "--data", wrong])
            assert refused.exit_code == 2 and told in refused.output and not asked


def test_a_resume_may_name_another_folder_that_is_there(run, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    given = resolve_resumed(run.path, named={"data.source": "folder:elsewhere"})
    assert given == replace(run.config(), data=at(run, "elsewhere"))
    with pytest.raises(ConfigError, match=r"nowhere', but there is no such folder\.$"):
        resolve_resumed(run.path, named={"data.source": "folder:nowhere"})


@pytest.mark.parametrize(
    ("place", "workers", "told"),
    [
        ("old", 1, None),
        ("new", 1, None),
        ("old", 2, "the run's config.toml stays as it was."),
        ("new", 2, "the run's config.toml stays as it was, but for the place of the data."),
    ],
)
def test_what_a_resume_without_a_step_keeps_is_told(place, workers, told):
    before = RunConfig(data=DataConfig(source="folder:old"), workers=1, profile_steps=3)
    after = replace(before, data=DataConfig(source=f"folder:{place}"))
    given = replace(after, workers=workers, profile_steps=0)
    remark = _not_kept(before, after, given)
    assert remark.endswith(told) if told else remark == ""


@pytest.mark.slow
def test_a_real_run_is_resumed_where_its_folder_was_moved_to(tmp_path):
    write_shapes(tmp_path / "shapes", 40)
    run = tmp_path / "run"
    first = run_hybrid(tmp_path, *train_options(tmp_path / "shapes", run_dir=run, workers=1, epochs=1))
    assert first.returncode == 0, first.stderr
    (tmp_path / "shapes").rename(tmp_path / "elsewhere")
    moved = f"folder:{tmp_path / 'elsewhere'}"
    resumed = run_hybrid(tmp_path, "train", "--resume", str(run), "--data", "folder:elsewhere", "--epochs", "2")
    assert resumed.returncode == 0, resumed.stderr
    config = read_config(run)
    assert (config.data.source, config.train.epochs) == (moved, 2.0)
    (tmp_path / "elsewhere" / "0000-red-disc.txt").write_text("blue, disc")
    refused = run_hybrid(tmp_path, "train", "--resume", str(run), "--epochs", "3")
    assert refused.returncode == 1 and "1 picture is tagged in another way" in refused.stderr
    assert read_config(run) == config
