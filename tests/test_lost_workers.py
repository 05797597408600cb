"""What a launcher says of workers that die."""

from types import SimpleNamespace

from launch.lost_workers import LostWorkers
from launch.snapshot import Snapshot


def test_a_lost_worker_is_told_to_people_and_trunk_and_nothing_is_said_of_chunks():
    """Only the trunk knows whether it had any."""
    snapshot, notes, sent = Snapshot(run="run", source="emoji"), [], []
    link = SimpleNamespace(send=lambda kind, **fields: sent.append((kind, fields)))
    LostWorkers(SimpleNamespace(poll=lambda: ["worker-0-1"]), snapshot, notes.append).look(link)
    assert notes == ["worker-0-1 was lost; another takes its place"]
    assert sent == [("lost", {"worker": "worker-0-1"})] and snapshot.workers_lost == 1
