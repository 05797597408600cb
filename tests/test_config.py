"""Settings: their rules, their layers, and what unknown keys are told."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from launch.config import DataConfig, RunConfig, TrainConfig, TrunkConfig
from launch.resolve import (
    CHANGEABLE_ON_RESUME,
    flatten,
    known_settings,
    parse_sets,
    read_toml,
    resolve,
    resolve_resumed,
)
from launch.run_settings import write_config
from launch.train_options import OPTIONS, given_settings
from workers.config import HeadConfig
from workers.default_workers import default_num_workers
from workers.errors import ConfigError, RunError
from workers.settings import nearest


def toml(folder: Path, text: str) -> Path:
    file = folder / "my.toml"
    file.write_text(text)
    return file


def test_later_layers_win(tmp_path, monkeypatch):
    monkeypatch.setattr("workers.accelerator.has_accelerator", lambda: False)
    file = toml(tmp_path, "workers = 3\n[train]\nlr = 0.1\nbatch_size = 32\nseed = 1\n")
    config = resolve(file, {"train.batch_size": 64, "train.seed": 2}, ["train.seed=3"])
    assert (config.workers, config.train.lr, config.train.batch_size, config.train.seed) == (3, 0.1, 64, 3)
    assert config.head == HeadConfig()


@pytest.mark.parametrize(
    ("earlier", "later", "expected"),
    [("minutes = 9", {"train.epochs": 2.0}, (2.0, None)), ("epochs = 9", {"train.minutes": 2.0}, (None, 2.0))],
)
def test_a_later_budget_replaces_an_earlier_one_of_the_other_kind(tmp_path, earlier, later, expected):
    config = resolve(toml(tmp_path, f"[train]\n{earlier}\n"), later)
    assert (config.train.epochs, config.train.minutes) == expected


def test_both_budgets_at_once_are_refused():
    with pytest.raises(ConfigError, match=r"train\.epochs = 1\.0.*train\.minutes"):
        resolve(named={"train.epochs": 1.0, "train.minutes": 1.0})


def test_a_file_is_refused_for_what_its_source_would_ignore_but_not_for_defaults(tmp_path):
    for source in ("emoji", f"folder:{tmp_path}"):
        write_config(tmp_path, resolve(named={"data.source": source}))
        assert resolve(tmp_path / "config.toml").data.source == source
    with pytest.raises(ConfigError, match=r"data\.hold_out_fraction = 0\.1 \(--hold-out\) applies to data of a folder"):
        resolve(toml(tmp_path, "[data]\nhold_out_fraction = 0.1\n"))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("train.lrr", "train.lr"),
        ("traim.lr", "train.lr"),
        ("train.batchsize", "train.batch_size"),
        ("head.negativs", "head.negatives"),
        ("head.row_lrate", "head.row_lr"),
        ("data.sourse", "data.source"),
        ("worker", "workers"),
        ("train.foo", None),
        ("train.bar", None),
        ("data.foo", None),
        ("head.xyz", None),
    ],
)
def test_a_setting_is_suggested_for_a_misspelling_and_none_for_what_is_like_none(written, meant):
    assert nearest(written, known_settings()) == (f"; did you mean {meant!r}?" if meant else "")


def test_written_settings_are_read_back_equal(tmp_path):
    config = resolve(named={"train.minutes": 2.5, "head.alpha": 0.75, "data.hold_out_design": "twemoji", "workers": 5})
    write_config(tmp_path, config)
    assert resolve(tmp_path / "config.toml") == config


def test_values_of_set_are_read_by_type(tmp_path):
    texts = [
        "train.augment=false",
        "train.lr=1",
        "trunk.factory=my.module:make",
        "data.hold_out_design=7",
        "trunk.device='cpu'",
    ]
    assert parse_sets(texts) == {
        "train.augment": False,
        "train.lr": 1,
        "trunk.factory": "my.module:make",
        "data.hold_out_design": "7",
        "trunk.device": "cpu",
    }
    assert resolve(sets=["train.lr=1"]).train.lr == 1.0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("train.lrr=1", "did you mean 'train.lr'"),
        ("train.dim=8", "did you mean 'trunk.dim'"),
        ("negatives=8", "did you mean 'head.negatives'"),
        ("worker=8", "did you mean 'workers'"),
        ("minutes=3", r"^--set: unknown setting 'minutes'; did you mean 'train\.minutes'\?$"),
        ("train.xyzzy=8", r"unknown setting 'train\.xyzzy'\. Known: train\.batch_size, "),
        ("xyzzy=8", "Known: .*data.source"),
        ("train.lr", "no '='"),
        ("workers=many", "of type str, expected int"),
        ("train.augment=1", "of type int, expected bool"),
        ("head.alpha=9", r"head\.alpha = 9\.0, but it must be between 0 and 2"),
        ("trunk.device=gpu", "one of auto, cpu, cuda, or one of several cards by its number, as in cuda:1"),
        ("trunk.device=cuda:", "one of auto, cpu, cuda"),
        ("trunk.device=cuda:first", "one of auto, cpu, cuda"),
        ("data.source=flickr", "emoji or folder:PATH"),
        ("data.source=folder:", r"data\.source = 'folder:', but it must be folder:PATH with a path that is not empty"),
        ("data.source=folder:/nowhere/at/all", "no such folder"),
        ("train.lr=nan", "must be positive and finite"),
        ("train.lr=inf", "must be positive and finite"),
        ("train.minutes=inf", "must be positive and finite"),
        ("train.epochs=inf", "must be positive and finite"),
    ],
)
def test_wrong_sets_are_explained(text, told):
    with pytest.raises(ConfigError, match=told):
        resolve(sets=[text])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[trian]\nlr = 1\n", r"my\.toml: unknown setting 'trian\.lr'; did you mean 'train\.lr'"),
        ("[train]\nbatchsize = 1\n", r"did you mean 'train\.batch_size'"),
        ("[nothing]\n", "unknown setting 'nothing'"),
        ("train = 3\n", r"my\.toml: 'train' is a table of settings, and cannot be one\. In it: train\.batch_size, "),
        ("lr = \n", r"my\.toml is not TOML"),
        ("[train]\nlr = 'high'\n", r"'train\.lr' = 'high' is of type str, expected float"),
        ("[trunk]\ndevice = 0\n", r"'trunk\.device' = 0 is of type int, expected str"),
        ("[trunk]\ndevice = 'cuda'\n[head]\nchunk_size = 'two'\n", r"'head\.chunk_size' = 'two' is of type str"),
        ("[trunk]\ndevice = 'cuda'\n[head]\nchunk_size = 5000\n", r"head\.chunk_size = 5000, but it must be between"),
    ],
)
def test_wrong_files_are_explained(tmp_path, text, told):
    with pytest.raises(ConfigError, match=told):
        resolve(toml(tmp_path, text))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.toml cannot be read: No such file or directory\.$"):
        read_toml(tmp_path / "absent.toml")


def test_a_folder_in_the_place_of_a_file_is_named_and_if_it_is_a_run_its_settings(tmp_path):
    with pytest.raises(ConfigError, match=r"is a folder, expected a TOML file\.$"):
        read_toml(tmp_path)
    (tmp_path / "config.toml").touch()
    with pytest.raises(ConfigError, match=rf"file\. Its settings are in {tmp_path / 'config.toml'}\.$"):
        read_toml(tmp_path)


def test_a_file_that_is_no_text_is_called_so(tmp_path):
    (tmp_path / "my.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"my\.toml is no text in UTF-8"):
        read_toml(tmp_path / "my.toml")


def test_an_empty_known_table_is_allowed(tmp_path, monkeypatch):
    monkeypatch.setattr("workers.accelerator.has_accelerator", lambda: False)
    assert resolve(toml(tmp_path, "[train]\n")) == RunConfig()


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "marked"])
def test_a_file_is_utf8_in_any_locale(tmp_path, mark):
    file = tmp_path / "my.toml"
    file.write_bytes(mark + "[data]\nsource = 'folder:/Fotos für später'\n".encode())
    assert read_toml(file) == {"data.source": "folder:/Fotos für später"}
    code = "import pathlib, sys, launch.resolve as r; print(ascii(r.read_toml(pathlib.Path(sys.argv[1]))))"
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-c", code, str(file)]
    root = Path(__file__).resolve().parent.parent
    result = subprocess.run(command, cwd=root, env=os.environ | locale, capture_output=True, text=True, check=True)
    assert result.stdout == "{'data.source': 'folder:/Fotos f\\xfcr sp\\xe4ter'}\n"


def test_folders_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    config = resolve(named={"data.source": "folder:photos/", "data.cache_dir": "cache"})
    assert config.data.source == f"folder:{tmp_path / 'photos'}"
    assert config.data.cache_dir == str(tmp_path / "cache")


def test_a_resumed_run_keeps_its_settings_but_for_those_that_may_change(tmp_path):
    write_config(tmp_path, resolve(named={"train.minutes": 2.0, "trunk.dim": 64, "workers": 3}))
    (tmp_path / "checkpoints" / "step-000000001" / "matrix").mkdir(parents=True)
    config = resolve_resumed(tmp_path, named={"workers": 5, "train.epochs": 7.0})
    assert (config.trunk.dim, config.workers, config.train.epochs, config.train.minutes) == (64, 5, 7.0, None)
    assert resolve_resumed(tmp_path, named={"trunk.dim": 64}).trunk.dim == 64  # given, but the same
    assert resolve_resumed(tmp_path, named={"transport": "zmq"}).transport == "zmq"
    with pytest.raises(ConfigError, match=r"trunk\.dim = 32, but the run to resume has 64"):
        resolve_resumed(tmp_path, named={"trunk.dim": 32})


def test_a_run_that_saved_nothing_may_start_again_with_any_settings(tmp_path):
    write_config(tmp_path, resolve(named={"train.lr": 1e9, "trunk.dim": 64}))
    config = resolve_resumed(tmp_path, named={"train.lr": 0.001})
    assert (config.train.lr, config.trunk.dim) == (0.001, 64)


def test_a_run_that_saved_nothing_is_checked_as_a_fresh_one(tmp_path):
    write_config(tmp_path, resolve(named={"train.minutes": 2.0}))
    hold_out = r"data\.hold_out_fraction = 0\.\d \(--hold-out\) applies to data of a folder alone"
    for value in (0.4, DataConfig().hold_out_fraction):
        with pytest.raises(ConfigError, match=hold_out):
            resolve_resumed(tmp_path, named={"data.hold_out_fraction": value})
    with pytest.raises(ConfigError, match=hold_out):
        resolve_resumed(tmp_path, toml(tmp_path, "[data]\nhold_out_fraction = 0.4\n"))
    with pytest.raises(ConfigError, match=r"absent', but there is no such folder"):
        resolve_resumed(tmp_path, named={"data.source": f"folder:{tmp_path / 'absent'}"})
    assert resolve_resumed(tmp_path).data.source == "emoji"
    write_config(tmp_path, RunConfig(data=DataConfig(hold_out_fraction=0.4)))  # edited by hand
    with pytest.raises(ConfigError, match=hold_out):
        resolve_resumed(tmp_path)


def test_a_run_that_saved_nothing_may_turn_to_data_of_another_kind(tmp_path):
    (tmp_path / "photos").mkdir()
    photos = f"folder:{tmp_path / 'photos'}"
    write_config(tmp_path, resolve(named={"data.source": photos, "data.hold_out_fraction": 0.4, "train.seed": 3}))
    assert resolve_resumed(tmp_path, named={"train.seed": 4}).data.hold_out_fraction == 0.4
    config = resolve_resumed(tmp_path, named={"data.source": "emoji", "data.hold_out_design": "twemoji"})
    assert config.data == DataConfig(hold_out_design="twemoji") and config.train.seed == 3
    write_config(tmp_path, config)
    assert resolve_resumed(tmp_path, named={"data.source": photos}).data == DataConfig(source=photos)


def test_a_resumed_run_traces_only_if_it_is_asked_again(tmp_path):
    write_config(tmp_path, resolve(named={"profile_steps": 100}))
    assert resolve_resumed(tmp_path).profile_steps == 0
    assert resolve_resumed(tmp_path, named={"profile_steps": 7}).profile_steps == 7
    assert resolve_resumed(tmp_path, named={"profile_steps": 100}).profile_steps == 100


def test_resuming_without_settings_is_explained(tmp_path):
    with pytest.raises(RunError, match=r"no config\.toml"):
        resolve_resumed(tmp_path)


def test_named_options_mean_known_settings_each_once():
    known = known_settings()
    keys = [option.key for option in OPTIONS]
    assert set(keys) <= set(known)
    assert len(set(keys)) == len(keys)
    assert set(known) >= CHANGEABLE_ON_RESUME


def test_known_settings_are_those_of_the_dataclasses():
    assert set(known_settings()) == set(flatten(dataclasses.asdict(RunConfig())))


@pytest.mark.parametrize(
    ("settings_type", "field", "value"),
    [
        (DataConfig, "image_size", 7),
        (DataConfig, "hold_out_fraction", 1.0),
        (DataConfig, "min_count", 0),
        (DataConfig, "max_tags", -1),
        (RunConfig, "transport", "rings"),
        (TrunkConfig, "dim", 6),
        (TrunkConfig, "factory", ""),
        (TrunkConfig, "threads", -1),
        (TrainConfig, "microbatches", 0),
        (TrainConfig, "positives", 0),
        (TrainConfig, "warmup_fraction", 1.0),
        (TrainConfig, "checkpoint_minutes", 0.0),
        (TrainConfig, "checkpoint_minutes", float("inf")),
        (TrainConfig, "weight_decay", float("inf")),
        (TrainConfig, "clip_norm", float("inf")),
        (TrainConfig, "negatives_target", 1.1),
        (TrainConfig, "min_negatives", 0),
        (TrainConfig, "max_negatives", 63),
        (HeadConfig, "negatives", 0),
        (HeadConfig, "objective", "softmax"),
        (RunConfig, "workers", 257),
    ],
)
def test_values_outside_their_rules_are_refused_by_name(settings_type, field, value):
    with pytest.raises(ConfigError, match=f"{field} = "):
        settings_type(**{field: value})


def test_bfloat16_rows_want_a_dim_of_whole_vectors():
    with pytest.raises(ConfigError, match=r"trunk\.dim = 12, but it must be a multiple of 8 with head\.row_dtype"):
        RunConfig(trunk=TrunkConfig(dim=12), head=HeadConfig(row_dtype="bfloat16"))


@pytest.mark.parametrize(
    ("settings_type", "field", "value"),
    [
        (DataConfig, "max_tags", 2.5),
        (DataConfig, "source", None),
        (TrunkConfig, "dim", 8.0),
        (TrunkConfig, "dim", "128"),
        (TrainConfig, "microbatches", 2.5),
        (TrainConfig, "seed", 1.5),
        (TrainConfig, "augment", "no"),
        (TrainConfig, "epochs", "3"),
        (TrainConfig, "batch_size", True),
        (RunConfig, "workers", 2.0),
        (RunConfig, "pin", 1),
        (RunConfig, "train", {"seed": 1}),
    ],
)
def test_values_of_another_type_are_refused_by_name(settings_type, field, value):
    with pytest.raises(ConfigError, match=rf"{field}'.* of type {type(value).__name__}, expected"):
        settings_type(**{field: value})


def test_whole_numbers_pass_for_floats():
    train = TrainConfig(epochs=3, lr=1)
    assert (train.epochs, train.lr) == (3.0, 1.0) and type(train.epochs) is type(train.lr) is float


@pytest.mark.parametrize(("batch_size", "is_enough"), [(3, False), (4, True)])
def test_batches_that_are_not_cut_have_no_shadow(batch_size, is_enough):
    settings = {"batch_size": batch_size, "auto_negatives": True}
    if is_enough:
        assert TrainConfig(**settings).parts == 2
    else:
        with pytest.raises(ConfigError, match=r"train\.batch_size = 3, but it must be at least 4 with"):
            TrainConfig(**settings)


def test_a_single_micro_batch_has_no_shadow():
    with pytest.raises(ConfigError, match=r"train\.microbatches = 1, but it must be at least 2 with"):
        TrainConfig(microbatches=1, auto_negatives=True)


@pytest.mark.parametrize(
    ("given", "chunks"),
    [
        ({}, (16, 2048)),
        ({"trunk.device": "cuda:1"}, (16, 2048)),
        ({"trunk.device": "cpu"}, (32, 4096)),
        ({"head.negatives": 64}, (16, 64)),
        ({"head.chunk_size": 32}, (32, 4096)),
        ({"head.chunk_size": 8}, (8, 1024)),
        ({"head.chunk_size": 8, "head.negatives": 64}, (8, 64)),
        ({"head.objective": "sampled-softmax"}, (32, 4096)),
        ({"head.private_negatives": True, "head.negatives": 20}, (32, 20)),
    ],
)
def test_beside_a_card_chunks_are_smaller_unless_they_are_given(monkeypatch, given, chunks):
    monkeypatch.setattr("workers.accelerator.has_accelerator", lambda: True)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(16)))
    monkeypatch.setattr("workers.cores.cpu_quota", lambda root: None)
    config = resolve(named=given)
    assert (config.head.chunk_size, config.head.negatives) == chunks
    assert config.workers == {32: 4, 16: 8, 8: 8}[chunks[0]]


def test_without_a_card_chunks_are_those_of_the_head(monkeypatch):
    monkeypatch.setattr("workers.accelerator.has_accelerator", lambda: False)
    assert resolve().head == HeadConfig()
    assert resolve(named={"trunk.device": "cuda"}).head.chunk_size == 16


def test_a_run_of_another_machine_keeps_its_chunks(monkeypatch, tmp_path):
    monkeypatch.setattr("workers.accelerator.has_accelerator", lambda: False)
    write_config(tmp_path, resolve())
    monkeypatch.setattr("workers.accelerator.has_accelerator", lambda: True)
    assert resolve_resumed(tmp_path).head == HeadConfig()


def test_the_default_number_of_workers_follows_the_cores(monkeypatch):
    monkeypatch.setattr("workers.cores.cpu_quota", lambda root: None)
    for cores, beside_gpu, on_cpu in ((1, 2, 2), (2, 2, 2), (4, 3, 2), (9, 8, 2), (16, 8, 4), (64, 8, 8)):
        monkeypatch.setattr("os.sched_getaffinity", lambda pid, cores=cores: set(range(cores)))
        for has_accelerator, workers in ((True, beside_gpu), (False, on_cpu)):
            monkeypatch.setattr("workers.accelerator.has_accelerator", lambda found=has_accelerator: found)
            assert default_num_workers() == workers
            for batch_size, most in ((128, 4), (256, 8), (32, 2)):
                train = TrainConfig(batch_size=batch_size)
                for device, cores_leave in (
                    ("auto", workers),
                    ("cpu", on_cpu),
                    ("cuda", beside_gpu),
                    ("cuda:1", beside_gpu),
                ):
                    config = RunConfig(trunk=TrunkConfig(device=device), train=train)
                    assert config.workers == min(cores_leave, most)


@pytest.mark.parametrize(
    ("batch_size", "microbatches", "chunk_size", "chunks"),
    [(128, 2, 32, 4), (128, 1, 32, 4), (130, 2, 32, 6), (3, 3, 32, 1), (1, 2, 32, 1), (128, 2, 4096, 2), (7, 2, 1, 7)],
)
def test_chunks_of_a_step(batch_size, microbatches, chunk_size, chunks):
    train = TrainConfig(batch_size=batch_size, microbatches=microbatches)
    assert RunConfig(train=train, head=HeadConfig(chunk_size=chunk_size)).chunks_per_step == chunks


def test_a_number_of_workers_that_is_given_is_kept(tmp_path):
    config = resolve(named={"workers": 5, "trunk.device": "cpu"})
    assert config.workers == 5
    write_config(tmp_path, config)
    assert resolve_resumed(tmp_path, named={"trunk.device": "auto"}).workers == 5


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("auto", {"train.auto_negatives": True}),
        (512, {"train.auto_negatives": False, "head.negatives": 512}),
        (None, {}),
    ],
)
def test_negatives_are_a_number_or_follow_the_trunk(given, expected):
    assert given_settings({"negatives": given}) == expected


def test_a_number_of_negatives_ends_what_a_file_asked_for(tmp_path):
    file = toml(tmp_path, "[train]\nauto_negatives = true\n")
    assert resolve(file).train.auto_negatives
    config = resolve(file, given_settings({"negatives": 99}))
    assert config.head.negatives == 99 and not config.train.auto_negatives


@pytest.mark.parametrize(
    "setting",
    [
        {"negatives": 2**24 + 1},
        {"negatives": 2**20, "private_negatives": True},
        {"negative_weight": float("inf")},
        {"init_scale": float("inf")},
        {"row_lr": 1e7},
        {"row_lr": float("nan")},
    ],
    ids=str,
)
def test_a_head_that_no_worker_could_serve_is_refused_at_once(setting):
    with pytest.raises(ConfigError, match=f"head.{next(iter(setting))} = "):
        HeadConfig(**setting)
