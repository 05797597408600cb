"""Reads a trace as Perfetto would, and refuses what it could not show."""

import json
import math
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Slice = dict[str, Any]


@dataclass
class Trace:
    """A checked trace."""

    names: dict[int, str] = field(default_factory=dict)
    """Process id -> name of its track."""
    order: dict[str, int] = field(default_factory=dict)
    """Name -> place from the top."""
    slices: dict[str, list[Slice]] = field(default_factory=lambda: defaultdict(list))
    """Name of the track -> its slices by start."""
    flows: dict[int, str] = field(default_factory=lambda: defaultdict(str))
    """Number of an arrow -> its points in order of time, `stf` for a whole one."""
    counts: list[int] = field(default_factory=list)
    """The counter's values in order of time."""

    def of(self, track: str, name: str) -> list[Slice]:
        """The slices of one kind on one track."""
        return [one for one in self.slices[track] if one["name"] == name]


def read_trace(path: Path) -> Trace:
    """Read and check: types, times, nesting, and that each arrow's points lie in slices."""
    events = json.loads(path.read_text())["traceEvents"]
    trace = Trace()
    for event in events:
        assert type(event["pid"]) is int and type(event["tid"]) is int and event["ph"] in "MXstfC"
        if event["ph"] == "M":
            _take_metadata(trace, event)
        else:
            assert math.isfinite(event["ts"]) and event["ts"] > 0
    timed = sorted((e for e in events if e["ph"] != "M"), key=lambda e: e["ts"])
    for event in timed:
        track = trace.names[event["pid"]]  # a process without a name could not be told apart
        if event["ph"] == "X":
            assert math.isfinite(event["dur"]) and event["dur"] >= 0 and type(event["args"]["step"]) is int
            trace.slices[track].append(event)
        elif event["ph"] == "C":
            trace.counts.append(next(iter(event["args"].values())))
        else:
            trace.flows[event["id"]] += event["ph"]
    for slices in trace.slices.values():
        _check_nesting(slices)
    for event in timed:
        if event["ph"] in "stf":
            around = trace.slices[trace.names[event["pid"]]]
            assert any(s["ts"] <= event["ts"] <= s["ts"] + s["dur"] for s in around), f"an arrow to nothing: {event}"
    return trace


def overlap_us(one: Slice, other: Slice) -> float:
    """Microseconds that two slices share."""
    end = min(one["ts"] + one["dur"], other["ts"] + other["dur"])
    return max(0.0, end - max(one["ts"], other["ts"]))


def _take_metadata(trace: Trace, event: dict[str, Any]) -> None:
    if event["name"] == "process_name":
        assert event["pid"] not in trace.names
        trace.names[event["pid"]] = event["args"]["name"]
    elif event["name"] == "process_sort_index":
        trace.order[trace.names[event["pid"]]] = event["args"]["sort_index"]
    else:
        assert event["name"] == "thread_name"


def _check_nesting(slices: list[Slice]) -> None:
    """Of two slices of a thread one holds the other, or they do not meet; a nanosecond is lost in rounding."""
    open_ends: list[float] = []
    for one in sorted(slices, key=lambda s: (s["ts"], -s["dur"])):
        end = one["ts"] + one["dur"]
        while open_ends and open_ends[-1] <= one["ts"] + 0.002:
            open_ends.pop()
        assert not open_ends or end <= open_ends[-1] + 0.002, f"{one} sticks out of the slice around it"
        open_ends.append(end)
