"""What a launcher says of workers that die."""

from types import SimpleNamespace

import pytest

from launch.lost_workers import LostWorkers
from launch.snapshot import Snapshot


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("filled", "another takes its place"),
        ("waiting", "the next one in its place comes later"),
        ("given up", "it was about to leave, and is not replaced"),
    ],
)
def test_a_lost_worker_is_told_to_people_and_trunk_and_nothing_is_said_of_chunks(place, told):
    """Only the trunk knows whether it had any."""
    snapshot, notes, sent = Snapshot(run="run", source="emoji"), [], []
    link = SimpleNamespace(send=lambda kind, **fields: sent.append((kind, fields)))
    pool = SimpleNamespace(poll=lambda: ["worker-0-1"], place_of=lambda name: place)
    LostWorkers(pool, snapshot, notes.append).look(link)
    assert notes == [f"worker-0-1 was lost; {told}"]
    assert sent == [("lost", {"worker": "worker-0-1"})] and snapshot.workers_lost == 1
