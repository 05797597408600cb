"""A run on disk, loaded and asked."""

import fcntl
import itertools
import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import tomli_w
import torch
from click.testing import CliRunner
from untrained_run import make_untrained_run

import hybrid
from hybrid.image_index import ImageIndex
from hybrid.measured import NotStored, save_measured
from hybrid.rundir import RunDirectory
from hybrid.temperature import save_temperature
from hybrid.verbs import verbs
from launch.config import DataConfig, TrainConfig, TrunkConfig
from workers.errors import ConfigError, DataError, MatrixMismatch, RunError, UnreadableFile
from workers.settings import to_plain


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run over folders of plain colours, with a trunk and rows that were not trained."""
    return make_untrained_run(tmp_path_factory.mktemp("loaded"))


def test_a_loaded_run_outlives_its_checkpoint(run, tmp_path):
    """A run that goes on keeps its newest checkpoints alone."""
    copy = tmp_path / "run"
    shutil.copytree(run.path, copy)
    loaded = hybrid.load(copy)
    shutil.rmtree(copy / "checkpoints")
    state, expected = loaded.trunk.state_dict(), hybrid.load(run.path).trunk.state_dict()
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    assert loaded.search("red", 3).hits


def test_a_loaded_run_says_what_it_is(run):
    loaded = hybrid.load(run.path)
    assert repr(loaded) == f"LoadedRun('run', step=1, num_tags={len(loaded.vocabulary)}, dim=8)"


def test_search_scores_are_rows_times_features(run):
    loaded = hybrid.load(run.path)
    result = loaded.search("RED", 100)
    tag = loaded.vocabulary.id_of("red")
    scores = loaded.index.features_ID @ loaded.rows.rows(tag, tag + 1)[0]
    assert [hit.score for hit in result.hits] == pytest.approx(sorted(scores, reverse=True), abs=1e-6)
    for hit in result.hits:
        assert hit.is_true == ("red" in hit.tags)


def test_annotation_ranks_by_probability_or_lift(run):
    loaded = hybrid.load(run.path)
    photo = run.path.parent / "photos" / "00.png"
    by_probability = loaded.annotate(photo, k=10)
    assert len(by_probability) == 5 and by_probability[0].tag == "plain" and by_probability[0].count > 0
    assert by_probability == loaded.annotate_all([photo, photo], k=10)[1]
    by_lift = loaded.annotate(photo, k=10, score="lift")
    assert {found.tag: found.score for found in by_lift} != {found.tag: found.score for found in by_probability}
    with pytest.raises(ConfigError, match="lift"):
        loaded.annotate(photo, score="likelihood")


def test_annotation_uses_the_saved_trunk(run):
    """The features of a file equal those in the index, which the trunk of the run made before it was saved."""
    loaded = hybrid.load(run.path)
    item = int(loaded.index.items_I[0])
    photo = run.path.parent / "photos" / loaded.view.names[item]
    scores = {found.tag: found.score for found in loaded.annotate(photo, k=5)}
    for tag_id, tag in enumerate(loaded.vocabulary.tags):
        row = loaded.rows.rows(tag_id, tag_id + 1)[0]
        expected = row @ loaded.index.features_ID[0] / loaded.temperature + loaded.score_bias_N()[tag_id]
        assert scores[tag] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_a_picture_that_cannot_be_read_does_not_keep_the_others_from_annotation(run, tmp_path, monkeypatch, flags):
    monkeypatch.setattr("hybrid.verbs._quiet", lambda: None)  # logging belongs to all tests of this process
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    good, broken, missing = run.path.parent / "photos" / "00.png", tmp_path / "broken.png", tmp_path / "missing.png"
    arguments = [str(run.path), str(broken), str(good), str(missing), "--k", "10", "--score", "probability", *flags]
    result = CliRunner().invoke(verbs.commands["annotate"], arguments)
    assert result.exit_code == 1
    told = result.stderr.splitlines()
    assert len(told) == 2
    assert "broken.png" in told[0] and told[1].endswith("missing.png cannot be annotated: no such file.")
    assert "plain" in result.stdout
    if flags:
        assert [image["image"] for image in json.loads(result.stdout)["images"]] == [str(good)]


@pytest.mark.parametrize("content", [None, b"", b"not a picture", b"\x89PNG\r\n\x1a\n cut"])
def test_unreadable_pictures_are_typed_errors(run, tmp_path, content):
    photo = tmp_path / "photo.png"
    if content is not None:
        photo.write_bytes(content)
    with pytest.raises(DataError, match=r"photo\.png cannot be"):
        hybrid.load(run.path).annotate(photo)


def test_evaluating_again_replaces_results_and_index(run):
    loaded = hybrid.load(run.path, device="cpu")  # as the index was made: a card's convolutions round to TF32
    before = np.array(loaded.index.features_ID)
    tables = loaded.evaluate(map_bounds=(1, 100))
    assert run.results() == tables and tables["test"]["items"] == len(loaded.view.test_items)
    assert tables["test"]["mAP bounds"] == [1, 100] and tables["test"]["mAP tags"] == 5
    assert np.allclose(ImageIndex.load(run.index).features_ID, before, atol=1e-5)
    assert loaded.search("red", 3).hits
    assert tables["valid"]["popularity"]["P@1"] == 1.0


@pytest.mark.parametrize("score", ["lift", "probability"])
def test_results_say_what_ranked_the_tags(run, score):
    hybrid.load(run.path).evaluate(score)
    assert {table["score"] for table in run.results().values()} == {score}


@pytest.fixture
def weighted(run, tmp_path):
    """A copy of the run, trained with weights on its tags' losses, whose data are elsewhere by now."""
    copy = RunDirectory(tmp_path / "weighted")
    shutil.copytree(run.path, copy.path)
    change(
        copy,
        train=TrainConfig(tag_loss_weight="inverse-frequency"),
        data=DataConfig(source="folder:/nowhere", image_size=16),
    )
    copy.prepared_file.write_text(json.dumps({"num_train": len(hybrid.load(run.path).view.train_items)}))
    return copy


def change(run, **tables):
    """Settings of a run, replaced by table."""
    run.config_file.write_text(tomli_w.dumps(to_plain(replace(run.config(), **tables))))


def test_loss_weights_enter_the_correction(run, weighted):
    plain = hybrid.load(run.path)
    counts, total = plain.vocabulary.counts[1:], len(plain.view.train_items)
    expected = plain.score_bias_N()[1:] - np.log(np.log(total / counts))
    assert hybrid.load(weighted.path).score_bias_N()[1:] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("content", [None, '{"fingerprint": "a"}', '{"num_train": -3}'])
def test_loss_weights_without_the_number_of_items_are_a_typed_error(weighted, content):
    weighted.prepared_file.unlink()
    if content is not None:
        weighted.prepared_file.write_text(content)
    with pytest.raises(RunError, match=r"prepared\.json does not say how many items .*hybrid train --resume"):
        hybrid.load(weighted.path).score_bias_N()


def test_a_tag_that_every_picture_carries_has_a_finite_score(run, weighted):
    loaded = hybrid.load(weighted.path)
    found = loaded.annotate(run.path.parent / "photos" / "00.png", k=10)
    assert found[0].tag == "plain" and len(found) == 5 and np.isfinite([tag.score for tag in found]).all()


def test_neighbours(run):
    loaded = hybrid.load(run.path)
    found = loaded.neighbours("red", 3)
    assert len(found) == 3 and "red" not in {other.tag for other in found}
    assert [other.score for other in found] == sorted((other.score for other in found), reverse=True)
    with pytest.raises(DataError, match="Did you mean 'green'"):
        loaded.neighbours("greenn")


class Card:
    """A card of which torch can say that it is there, but whose use fails, as of one that is too old or full."""

    def __init__(self, monkeypatch):
        self.asked = []
        monkeypatch.setattr("torch.cuda.is_available", lambda: True)
        monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
        for name in ("get_device_capability", "_lazy_init"):
            monkeypatch.setattr(f"torch.cuda.{name}", self.fail)

    def fail(self, *arguments):
        self.asked.append(arguments)
        raise RuntimeError("CUDA error: out of memory")


def test_a_run_that_was_kept_off_the_card_is_asked_on_the_cpu(run, monkeypatch):
    card = Card(monkeypatch)
    loaded = hybrid.load(run.path)
    assert loaded.annotate(run.path.parent / "photos" / "00.png", 2) and loaded.evaluate()
    assert loaded.device == torch.device("cpu") and not card.asked


@pytest.mark.parametrize("trained_on", ["auto", "cuda"])
def test_any_other_run_is_asked_wherever_there_is_a_device(run, tmp_path, monkeypatch, trained_on):
    copy = RunDirectory(tmp_path / "run")
    shutil.copytree(run.path, copy.path)
    change(copy, trunk=TrunkConfig(dim=8, device=trained_on, precision="auto"))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    loaded = hybrid.load(copy.path)
    assert loaded.device == torch.device("cpu") and loaded.annotate(run.path.parent / "photos" / "00.png", 2)
    card = Card(monkeypatch)
    loaded = hybrid.load(copy.path)
    assert loaded.search("red", 3).hits and loaded.neighbours("red", 3)
    assert not card.asked, "what needs no trunk starts no device"
    assert loaded.device == torch.device("cuda")
    with pytest.raises(RuntimeError, match="CUDA"):
        loaded.annotate(run.path.parent / "photos" / "00.png")


def test_a_device_that_is_given_counts(run, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ConfigError, match="no CUDA device"):
        hybrid.load(run.path, "cuda")
    Card(monkeypatch)
    assert [hybrid.load(run.path, device).device.type for device in ("auto", "cuda", "cpu")] == ["cuda", "cuda", "cpu"]


def test_vocabulary_of_another_run_is_refused(run, tmp_path):
    loaded = hybrid.load(run.path)
    text = run.vocabulary.read_text().replace("num_tags=5", "num_tags=4").splitlines(keepends=True)
    (tmp_path / "vocabulary.tsv").write_text("".join(text[:-1]))
    loaded.directory = RunDirectory(tmp_path)
    with pytest.raises(MatrixMismatch, match="4 tags"):
        _ = loaded.vocabulary


def test_a_run_without_held_out_pictures_cannot_be_evaluated(run, monkeypatch):
    loaded = hybrid.load(run.path)
    for split in ("valid_items", "test_items"):
        monkeypatch.setattr(loaded.view, split, np.empty(0, np.int64))
    with pytest.raises(DataError, match="no held-out picture"):
        loaded.evaluate()


def test_a_run_refuses_other_data_than_it_learned(run):
    loaded = hybrid.load(run.path)
    prepared = {"fingerprint": loaded.view.fingerprint}
    run.prepared_file.write_text(json.dumps(prepared))
    try:
        assert hybrid.load(run.path).search("red").hits
        (run.path.parent / "photos" / "more.png").write_bytes((run.path.parent / "photos" / "00.png").read_bytes())
        (run.path.parent / "photos" / "more.txt").write_text("red")
        before = run.results_file.read_bytes() if run.results_file.exists() else None
        with pytest.raises(RunError, match=r"not those that .* learned.*hybrid train --config "):
            hybrid.load(run.path).evaluate()
        assert "1 picture is new" in hybrid.load(run.path).search("red").remark
        assert before == (run.results_file.read_bytes() if run.results_file.exists() else None)
        assert hybrid.load(run.path).neighbours("red", 1), "what needs no pictures still works"
    finally:
        run.prepared_file.unlink()
        for name in ("more.png", "more.txt"):
            (run.path.parent / "photos" / name).unlink(missing_ok=True)


def test_a_run_refuses_other_data_before_it_prepares_them(run):
    view, more = hybrid.load(run.path).view, run.path.parent / "photos" / "one more.png"
    run.prepared_file.write_text(json.dumps({"fingerprint": view.fingerprint, "view": str(view.folder)}))
    try:
        assert hybrid.load(run.path).view.folder == view.folder
        shutil.copy(run.path.parent / "photos" / "00.png", more)
        more.with_suffix(".txt").write_text("red")
        before = sorted((run.path.parent / "cache").glob("*/*"))
        with pytest.raises(RunError, match=r"not those that .* learned.*hybrid train --config "):
            hybrid.load(run.path).evaluate()
        assert sorted((run.path.parent / "cache").glob("*/*")) == before
    finally:
        run.prepared_file.unlink()
        for path in (more, more.with_suffix(".txt")):
            path.unlink(missing_ok=True)


def test_an_index_of_other_data_is_refused(run):
    loaded = hybrid.load(run.path)
    index = loaded.index
    ImageIndex(index.items_I, np.array(index.features_ID), "another", index.step).save(run.index)
    with pytest.raises(RunError, match="have changed"):
        hybrid.load(run.path).search("red")
    ImageIndex(index.items_I, np.array(index.features_ID), index.fingerprint, index.step).save(run.index)


def contents_of(directory):
    """What an evaluation writes, by name of the file."""
    places = (directory.results_file, directory.temperature_file, *sorted(directory.index.glob("*")))
    return {path.name: path.read_bytes() for path in places}


def test_an_evaluation_leaves_alone_what_a_later_checkpoint_left(run, tmp_path, caplog):
    """The end of a training overtakes `hybrid evaluate`, which has measured the checkpoint before for minutes."""
    later = RunDirectory(tmp_path / "run")
    shutil.copytree(run.path, later.path)
    loaded = hybrid.load(later.path)
    loaded.evaluate()
    shutil.copytree(later.checkpoints / "step-000000001", later.checkpoints / "step-000000002")
    index = ImageIndex.load(later.index)
    replace(index, features_ID=np.array(index.features_ID) + 1, step=2).save(later.index)
    save_temperature(later.temperature_file, 2.5, 2)
    later.write_results({"test": {"P@5": 0.9}})
    before = contents_of(later)
    tables = loaded.evaluate()
    assert contents_of(later) == before
    assert tables["test"]["step"] == 1 and loaded.index.step == 1
    assert "newer checkpoint than step 1" in caplog.text


def test_an_evaluation_is_stored_beside_a_later_checkpoint_that_is_damaged(run, tmp_path, caplog):
    """Whoever loads the run passes that one over, and would be sent to `hybrid evaluate` for ever."""
    copy = RunDirectory(tmp_path / "run")
    shutil.copytree(run.path, copy.path)
    later = copy.checkpoints / "step-000000002"
    shutil.copytree(copy.checkpoints / "step-000000001", later)
    (later / "trunk.safetensors").write_bytes(b"cut short")
    hybrid.load(copy.path).evaluate()
    assert "newer checkpoint" not in caplog.text
    assert copy.results()["test"]["step"] == 1 and hybrid.load(copy.path).search("red").hits


def test_what_was_measured_is_not_lost_where_a_newer_checkpoint_cannot_be_read(run, tmp_path, monkeypatch):
    copy = RunDirectory(tmp_path / "run")
    shutil.copytree(run.path, copy.path)
    loaded = hybrid.load(copy.path)
    shutil.copytree(copy.checkpoints / "step-000000001", copy.checkpoints / "step-000000002")

    def refuse(path):
        raise UnreadableFile(f"{path} cannot be read: Too many open files.")

    monkeypatch.setattr("hybrid.measured.open_checkpoint", refuse)
    with pytest.raises(NotStored, match=r"not stored in the run: .*step-000000002 cannot be read") as caught:
        loaded.evaluate()
    assert "P@5" in caught.value.tables["test"]


def test_what_was_measured_is_not_lost_where_the_run_cannot_be_written(run, tmp_path):
    copy = RunDirectory(tmp_path / "run")
    shutil.copytree(run.path, copy.path)
    copy.results_file.unlink(missing_ok=True)
    copy.results_file.mkdir()  # root may write into any folder, but nobody replaces this by a file
    with pytest.raises(NotStored, match=r"measured, but not stored in the run: cannot write .*results\.json") as caught:
        hybrid.load(copy.path).evaluate()
    assert caught.value.tables["test"]["step"] == 1


def test_evaluations_of_one_run_are_stored_in_turn(run, tmp_path, monkeypatch):
    """Each removes what one that was killed left behind, so it must not meet one that is at work."""
    copy = RunDirectory(tmp_path / "run")
    shutil.copytree(run.path, copy.path)
    index, tables = ImageIndex.load(copy.index), {"test": {"score": "lift"}}
    now_s = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: next(now_s), sleep=lambda seconds: None)
    monkeypatch.setattr("workers.file_lock.time", clock)
    with copy.evaluation_lock.open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(RunError, match="locked by another evaluation"):
            save_measured(copy, tables, index, 1)
    assert save_measured(copy, tables, index, 1)


def test_the_bare_score_is_measured_as_annotation_ranks_by_it(run, tmp_path, monkeypatch):
    copy = tmp_path / "run"
    shutil.copytree(run.path, copy)
    monkeypatch.setattr("hybrid.split_tables.choose_temperature", lambda *arguments: 2.0)
    assert {table["temperature"] for table in hybrid.load(copy).evaluate("lift").values()} == {1.0}
    assert {table["temperature"] for table in hybrid.load(copy).evaluate("probability").values()} == {2.0}


def test_many_pictures_go_through_the_trunk_in_parts(run, monkeypatch):
    monkeypatch.setattr("hybrid.loaded.batch_size_of", lambda side: 2)
    loaded, sizes = hybrid.load(run.path), []
    loaded.trunk.register_forward_hook(lambda trunk, inputs, output: sizes.append(len(output)))
    pictures = sorted((run.path.parent / "photos").glob("*.png"))[:5]
    together = loaded.annotate_all(pictures, 2)
    assert sizes == [2, 2, 1]
    assert [[found.tag for found in one] for one in together] == [
        [found.tag for found in loaded.annotate(picture, 2)] for picture in pictures
    ]
