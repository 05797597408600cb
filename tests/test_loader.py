"""Batches come in the given order, whoever decodes them; bad pictures are left out and named once."""

import errno
import multiprocessing
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_data import write_photos
from torch.utils.data import DataLoader

from hybrid.data.images import decode_square
from hybrid.data.loader import batches, default_loader_processes
from hybrid.data.prepare import prepare
from hybrid.data.store import DecodedImages
from hybrid.data.view import View
from launch.config import DataConfig
from workers.errors import DataError

NUM_PHOTOS = 40
SIZE = 16


def prepared(tmp_path: Path) -> View:
    write_photos(tmp_path / "photos", NUM_PHOTOS)
    return prepare(DataConfig(source=f"folder:{tmp_path / 'photos'}", cache_dir=str(tmp_path / "cache"), image_size=12))


@pytest.fixture
def encoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> View:
    """A view too large to be stored decoded, by a bound of nothing."""
    monkeypatch.setattr("hybrid.data.image_cache.MAX_BYTES", 0)
    view = prepared(tmp_path)
    assert not view.images.is_decoded
    return view


def some_order() -> np.ndarray:
    return np.random.default_rng(0).permutation(NUM_PHOTOS)[:33]


def first_values(view: View) -> list[int]:
    """The red of each item's picture, which is its number."""
    return [int(name[1:4]) for name in view.names]


def test_decoded_batches_in_order(tmp_path: Path) -> None:
    view = prepared(tmp_path)
    assert view.images.is_decoded
    parts = list(batches(view, some_order(), 8))
    assert [len(items) for items, _ in parts] == [8, 8, 8, 7, 2]
    assert np.concatenate([items for items, _ in parts]).tolist() == some_order().tolist()
    for items, images in parts:
        assert images.shape == (len(items), SIZE, SIZE, 3) and images.dtype == np.uint8
        assert images[:, 0, 0, 0].tolist() == [first_values(view)[item] for item in items]


@pytest.mark.parametrize("processes", [0, 1, 2])
def test_decoding_processes_change_nothing(encoded: View, processes: int) -> None:
    parts = list(batches(encoded, some_order(), 8, processes))
    assert np.concatenate([items for items, _ in parts]).tolist() == some_order().tolist()
    assert all(type(array) is np.ndarray for part in parts for array in part)
    images = np.concatenate([images for _, images in parts])
    expected = [decode_square(encoded.pictures.root / encoded.names[item], SIZE) for item in some_order()]  # type: ignore[attr-defined]
    assert np.array_equal(images, np.stack(expected))


@pytest.mark.parametrize("processes", [0, 1])
def test_reading_leaves_torchs_generator_alone(encoded: View, processes: int) -> None:
    """A checkpoint restores it; a resumed epoch begins to read once more than one that nobody stopped."""
    before = torch.get_rng_state()
    assert len(list(batches(encoded, some_order(), 8, processes))) == 5
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("processes", [0, 2])
def test_bad_pictures_are_left_out_and_named_once(
    encoded: View, tmp_path: Path, processes: int, caplog: pytest.LogCaptureFixture
) -> None:
    """They went bad after the headers were looked at; the first batch is nothing but bad ones."""
    bad = {"a000.png", "a001.png", "a005.png"}
    for name in bad:
        (tmp_path / "photos" / name).write_bytes((tmp_path / "photos" / name).read_bytes()[:50])
    for _ in range(2):
        parts = list(batches(encoded, np.arange(NUM_PHOTOS), 2, processes))
        kept = np.concatenate([items for items, _ in parts])
        assert {encoded.names[item] for item in set(range(NUM_PHOTOS)) - set(kept.tolist())} == bad
        assert all(len(items) == len(images) > 0 for items, images in parts)
        shown = np.concatenate([images[:, 0, 0, 0] for _, images in parts])
        assert shown.tolist() == [first_values(encoded)[item] for item in kept]
    assert {encoded.names[item] for item in encoded.bad_items} == bad
    assert all(caplog.text.count(name) == 1 for name in bad)


@pytest.mark.parametrize(
    ("sizes", "batch_size", "expected"),
    [
        ([8, 8, 1], 8, [8, 7, 2]),
        ([1, 8, 8], 8, [2, 7, 8]),
        ([8, 1, 1, 1], 8, [7, 2, 2]),
        ([1, 1, 1, 1, 1], 8, [2, 3]),
        ([2, 1, 2, 1], 2, [3, 3]),
        ([1, 1], 2, [2]),
        ([1], 8, [1]),
        ([1, 1, 1], 1, [1, 1, 1]),
        ([], 8, []),
    ],
)
def test_no_batch_has_a_single_example_and_items_keep_their_order(
    sizes: list[int], batch_size: int, expected: list[int], encoded: View, tmp_path: Path
) -> None:
    """Pictures gone bad leave so many good ones in each batch."""
    order = np.arange(len(sizes) * batch_size)
    good = [start * batch_size + i for start, size in enumerate(sizes) for i in range(size)]
    for item in set(order.tolist()) - set(good):
        (tmp_path / "photos" / encoded.names[item]).write_bytes(b"bad")
    parts = list(batches(encoded, order, batch_size, 0))
    assert [len(items) for items, _ in parts] == expected
    assert [item for items, _ in parts for item in items.tolist()] == good
    assert [value for _, images in parts for value in images[:, 0, 0, 0].tolist()] == good


def test_reading_names_a_bad_picture(encoded: View, tmp_path: Path) -> None:
    (tmp_path / "photos" / "a003.png").unlink()
    images, bad = encoded.images.read(np.array([2, 3]))
    assert len(images) == 1 and bad == {3: "no such file"}


def test_bad_headers_are_known_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybrid.data.image_cache.MAX_BYTES", 0)
    write_photos(tmp_path / "photos", NUM_PHOTOS)
    (tmp_path / "photos" / "a007.png").write_bytes(b"not a picture")
    config = DataConfig(source=f"folder:{tmp_path / 'photos'}", cache_dir=str(tmp_path / "cache"))
    view = prepare(config)
    assert len(view) == NUM_PHOTOS - 1 and view.dropped == {"items with unreadable pictures": 1}


def test_a_killed_decoder_is_an_error_not_a_hang(encoded: View, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(items: np.ndarray) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(encoded.images, "read", die)
    with pytest.raises(DataError, match=r"loader_processes"):
        list(batches(encoded, np.arange(8), 4, 1))


def test_a_full_shared_memory_is_named(encoded: View, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(loader: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(DataLoader, "__iter__", refuse)
    with pytest.raises(DataError, match=r"No space left.*/dev/shm.*loader_processes=0"):
        list(batches(encoded, np.arange(8), 4, 1))


@pytest.mark.parametrize("processes", [0, 2])
def test_an_early_end_and_no_items(encoded: View, processes: int) -> None:
    stream = batches(encoded, np.arange(NUM_PHOTOS), 4, processes)
    next(stream)
    stream.close()
    assert list(batches(encoded, np.arange(0), 4, processes)) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_for_all_processes_leaves_reading_to_its_owner(encoded: View, number: signal.Signals) -> None:
    """`systemctl stop`, say, signals everybody; the owner, which ignores that, is to save first."""
    before, of_others = signal.signal(number, signal.SIG_IGN), multiprocessing.active_children()
    try:
        stream = batches(encoded, np.arange(NUM_PHOTOS), 4, 1)
        read = [next(stream)]
        for child in set(multiprocessing.active_children()) - set(of_others):
            subprocess.run(["kill", f"-{number:d}", str(child.pid)], check=True)  # torch lets its own process end it
        read += stream
    finally:
        signal.signal(number, before)
    assert sum(len(items) for items, _ in read) == NUM_PHOTOS


@pytest.mark.parametrize(("cores", "processes"), [(1, 1), (2, 1), (6, 3), (64, 8)])
def test_default_processes_leave_cores_to_training(monkeypatch: pytest.MonkeyPatch, cores: int, processes: int) -> None:
    monkeypatch.setattr("hybrid.data.loader.available_cores", lambda: cores)
    assert default_loader_processes() == processes


def test_decoded_pictures_are_read_into_the_memory_that_is_given() -> None:
    stored = np.arange(4 * 2 * 2 * 3, dtype=np.uint8).reshape(4, 2, 2, 3)
    given = []
    store = DecodedImages(stored, rows=np.array([3, 0, 1, 2]))
    images, bad = store.read(np.array([2, 0, 2]), lambda shape: given.append(np.empty(shape, np.uint8)) or given[0])
    assert images is given[0] and bad == {} and np.array_equal(images, stored[[1, 3, 1]])
    assert store.read(np.array([], dtype=np.int64))[0].shape == (0, 2, 2, 3)


def test_each_batch_is_read_into_memory_of_its_own(tmp_path: Path) -> None:
    """The last item alone gets a neighbour, and these two are copied once more."""
    write_photos(tmp_path / "photos", 9)
    view = prepare(DataConfig(source=f"folder:{tmp_path / 'photos'}", cache_dir=str(tmp_path / "cache")))
    given: list[np.ndarray] = []

    def empty(shape: tuple[int, ...]) -> np.ndarray:
        given.append(np.empty(shape, np.uint8))
        return given[-1]

    read = list(batches(view, np.arange(len(view)), 4, 0, empty))
    assert [len(images) for images in given] == [4, 4, 1] and [len(items) for items, _ in read] == [4, 3, 2]
    assert read[0][1] is given[0]
    for items, images in read:
        assert np.array_equal(images, view.images.read(items)[0])
