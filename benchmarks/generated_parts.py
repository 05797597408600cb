"""The parts of documents that are made from results: `<!-- benchmark: NAME -->` to `<!-- end -->`."""

import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from benchmarks import head_report, start
from benchmarks.card_parts import BARE_ROW, CARD_PARTS
from benchmarks.gates import HIGHER, NOT_MEASURED, OK, SHORT
from benchmarks.markdown import markdown_table
from benchmarks.page import MEASURES
from benchmarks.pipeline_parts import PIPELINE_PARTS
from benchmarks.record import RESULTS, machine_of, read_record
from benchmarks.rival_forms import missed_forms, naming_missed_forms, other_forms
from benchmarks.rival_parts import gpu_only_by_hand_part, gpu_only_part, rates_part, rivals_part, verdicts_part
from benchmarks.verdict_table import shown, tally, verdicts_markdown
from benchmarks.verdicts import newest_verdicts
from workers.errors import DataError

Records = Mapping[str, Mapping[str, Any]]
_PART = re.compile(r"(<!-- benchmark: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_MIB = 1 << 20
_DIM, _BREAK = "D = 256", "\n\n"
_GATES, _START = "docs/benchmarks.md#the-speed-that-the-wide-engine-is-to-reach", "benchmarks/results/start.md"
EDGE = 0.12
"""Of a gate: between whole runs of nearly the same code most figures moved by less, with the state of the machine's
memory; a few by a fifth."""
SLOW_MEMORY = RESULTS / "slow_memory"
"""What the suite found on a machine that is not that of the other results."""


def fill(document: str, records: Records) -> str:
    """A document with every part made again.

    Raises:
        DataError: a part has an unknown name, or the results that it needs are not there.
    """

    def made(match: re.Match[str]) -> str:
        first, name, last = match.groups()
        if name not in PARTS:
            raise DataError(f"a document has a part {name!r}; known are {', '.join(PARTS)}.")
        try:
            return f"{first}{PARTS[name](records).strip()}\n{last}"
        except KeyError as e:
            raise DataError(f"the part {name!r} needs {e}, which no results hold; run that benchmark.") from e

    return _PART.sub(made, document)


def outside_parts(text: str) -> str:
    """The text that people wrote."""
    return _PART.sub("", text)


def gates_part(records: Records) -> str:
    """Verdicts on all gates; those that were not measured are named below, with what is known of them."""
    results = newest_verdicts(records.values())
    judged = [result for result in results if result["verdict"] != NOT_MEASURED]
    rows = [
        row for result in judged for row in (_noted(result, records), *other_forms(result["name"], _peers(records)))
    ]
    parts = [" ".join([tally(results), *_bare_row(records)]), *([verdicts_markdown(rows)] if rows else [])]
    missing: dict[str, list[str]] = {}
    for result in results:
        if result["verdict"] == NOT_MEASURED:
            missing.setdefault(result["reason"], []).append(result["what"])
    parts += [f"Not measured ({reason}): {'; '.join(figures)}." for reason, figures in missing.items()]
    return "\n\n".join(parts)


def tally_part(records: Records) -> str:
    """How many gates are reached, and what those that are missed lack."""
    results = newest_verdicts(records.values())
    missed = _missed(results, records)
    missed += [
        f"- reached, but not against every form of the rival: {result['what']}: "
        f"{shown(result['value'], result['unit'])}; {'; '.join(forms)}; wanted at least {result['gate']:g}x"
        for result in results
        if (forms := missed_forms(result, _peers(records)))
    ]
    parts = [
        " ".join([tally(results), *_on_the_edge(results), *_bare_row(records)]),
        "\n".join(missed + _unmeasured(results)),
        f"No gate, but wanted. {_starts(records)} ([table]({_START}))." if "start" in records else "",
        f"On a second machine: {slow_memory_part(records).partition(_BREAK)[0]} [Which, and all of them]({_GATES}).",
    ]
    return "\n\n".join(filter(None, parts))


def _missed(results: Iterable[Mapping[str, Any]], records: Records) -> list[str]:
    return [
        f"- missed: {result['what']}: {result['value']:.4g}{result['unit']}, wanted at "
        f"{'least' if result['direction'] == HIGHER else 'most'} {result['gate']:g}{result['unit']}"
        + "".join(f" ({apart})" for apart in filter(None, [_apart(result, records)]))
        for result in results
        if result["verdict"] == SHORT
    ]


def _unmeasured(results: Iterable[Mapping[str, Any]]) -> list[str]:
    unmeasured = [r for r in results if r["verdict"] == NOT_MEASURED]
    medians = ["" if r["value"] is None else f" (median {r['value']:.3g}{r['unit']})" for r in unmeasured]
    return [f"- not measured: {r['what']}: {r['reason']}{m}" for r, m in zip(unmeasured, medians, strict=True)]


def slow_memory_part(_: Records) -> str:
    """The gates on a machine with slower memory, whose results lie apart: they are no newer verdicts on the first."""
    records = {path.stem: read_record(path) for path in sorted(SLOW_MEMORY.glob("*.json"))}
    results = newest_verdicts(records.values())
    lines = _missed(results, records) + _unmeasured(results)
    return _BREAK.join([" ".join([tally(results), *_bare_row(records)]), "\n".join(lines)])


def _on_the_edge(results: Iterable[Mapping[str, Any]]) -> list[str]:
    """How many gates are reached so narrowly that another run of the same code may miss them."""
    judged = [result for result in results if result["verdict"] == OK and result["rounds"] > 1]
    num_near = sum(abs(result["value"] - result["gate"]) <= EDGE * result["gate"] for result in judged)
    return [f"{num_near} of those reached are within {EDGE:.0%} of their gate: another run may miss them."] * (
        num_near > 0
    )


def _bare_row(records: Records) -> list[str]:
    """What the machine's memory can do, without which nobody can compare ratios with those of another machine."""
    record = records.get("kernels", {"results": ()})
    times = [r["value"] for r in record["results"] if r["name"] == BARE_ROW and r["value"] is not None]
    if not times:
        return []
    commit = (record["software"]["commit"] or "no commit")[:10]
    return [f"By {commit}, where a bare row of 256 is rewritten in {times[0]:.3g} ns, {machine_of(record)}."]


def _noted(result: Mapping[str, Any], records: Records) -> Mapping[str, Any]:
    """The result, whose reason names the forms of the rival against which its gate would be missed.

    And what it was measured by, where that is not what the line above the table says.
    """
    noted = naming_missed_forms(result, _peers(records))
    return {**noted, "reason": "; ".join(filter(None, (noted["reason"], _apart(result, records))))}


def _peers(records: Records) -> Sequence[Mapping[str, Any]]:
    return records.get("peers", {}).get("results", ())


def _apart(result: Mapping[str, Any], records: Records) -> str:
    if "kernels" not in records or "surroundings" not in result:
        return ""
    record, (machine, commit) = records["kernels"], result["surroundings"]
    apart = [f"by {(commit or 'no commit')[:10]}"] if commit != record["software"]["commit"] else []
    return ", ".join(apart + ([machine] if machine != machine_of(record) else []))


def quality_part(records: Records) -> str:
    """Held-out measures of finished runs, popularity in brackets; the newest runs first."""
    found = [record for name, record in records.items() if name.startswith("run_quality")]
    if not found:
        raise KeyError("run_quality")
    return "\n\n".join(map(_quality, sorted(found, key=lambda record: record["written"], reverse=True)))


def _quality(record: Mapping[str, Any]) -> str:
    rows = []
    for result in record["results"]:
        for split, table in result["tables"].items():
            if split != "valid":
                cells = [f"{table[m]:.3f} ({table['popularity'][m]:.3f})" for m in MEASURES]
                pictures = "{:,} to {:,}".format(*table["mAP bounds"])
                rows.append([f"{result['name']}: {split}, {table['items']:,} pictures", *cells, pictures])
    minutes = _range([result["training_s"] / 60 for result in record["results"]], ".1f")
    waited = _range([100 * statistics.mean(result["wait_fraction"]) for result in record["results"]], ".1f")
    drawn = {(r["settings"]["train"]["positives"], r["settings"]["head"]["negatives"]) for r in record["results"]}
    draws = "; ".join(f"{positives} positives and {negatives:,} negatives" for positives, negatives in sorted(drawn))
    text = (
        f"{minutes} minutes of training with the defaults of {record['written'][:10]} ({draws}) except where a name "
        f"says otherwise, {machine_of(record)}. The trunk waited for workers {waited}% of the time. In brackets what "
        "popularity reaches, which gives every picture the most frequent tags."
    )
    header = ["data", *MEASURES, "over words with this many pictures"]
    return f"{text}\n\n{markdown_table(header, rows)}"


def workers_part(records: Records) -> str:
    """How quality differs between numbers of workers."""
    record = records["worker_quality"]
    by_workers: dict[int, list[float]] = {}
    for result in record["results"]:
        by_workers.setdefault(result["settings"]["workers"], []).append(result["final"]["P@5"])
    means = [statistics.mean(values) for values in by_workers.values()]
    every = [value for values in by_workers.values() for value in values]
    return (
        f"{len(every)} short trainings of {record['settings']['epochs']:g} epochs, with "
        f"{', '.join(map(str, sorted(by_workers)))} workers, {machine_of(record)} (`make bench-workers`): "
        "mean P@5 on validation pictures differs by "
        f"{100 * (max(means) - min(means)):.2f} points between numbers of workers. Single runs went from "
        f"{min(every):.3f} to {max(every):.3f}: a few subjects, each in many variants of skin tone and gender, decide "
        "P@5. They are too short to be compared with README's table."
    )


def head_part(records: Records) -> str:
    """Time and memory of the head alone."""
    scaling, (memory,) = records["head_scaling"], records["head_memory"]["results"]
    results = sorted(scaling["results"], key=lambda result: result["num_tags"])
    times = [
        f"{statistics.median(result['round_step_ms']):.1f} ms at {result['num_tags']:,} tags"
        + (f" ({statistics.median(grown):.1f} times as long)" if place else "")
        for place, (result, grown) in enumerate(zip(results, head_report.growth(scaling, "round_step_ms"), strict=True))
    ]
    settings, rows_mib = scaling["settings"], (memory["rows_bytes"] + memory["state_bytes"]) / _MIB
    return (
        f"A step of the head alone, {machine_of(scaling)} (`make bench-head`; {settings['batch_size']} examples of dim "
        f"{settings['dim']}, "
        f"{results[0]['head_config']['negatives']:,} shared negatives per chunk) takes {', '.join(times)}. Training "
        f"with {memory['workers']} workers at {memory['num_tags']:,} tags takes "
        f"{memory['memory_bytes']['Pss'] / _MIB:,.0f} MiB over all processes, of which {rows_mib:,.0f} are rows and "
        "state."
    )


def cards_part(records: Records) -> str:
    """What cards of several sizes would hold of the leanest layer that needs no workers."""
    most: dict[str, int] = {}
    for result in records["memory_limits"]["results"]:
        for card, num_tags in result["on_cards"].items() if result["contender"] != "hybrid" else ():
            most[card] = max(most.get(card, 0), num_tags)
    cards = {card.partition(",")[0]: num_tags for card, num_tags in most.items() if card.endswith(_DIM)}
    held = [f"{num_tags / 1e6:.1f} million on {card}" for card, num_tags in cards.items()]
    return (
        "Predicted, rows of dim 256 in float32 with their optimizer, trunk and activations not counted, that the "
        f"leanest layer without workers, in small chunks, fits on a card: {', '.join(held)} (`make bench-memory`)."
    )


def start_part(records: Records) -> str:
    """How long until the first step."""
    return f"{_starts(records)} (`make bench-start`, [its table](../{_START}))."


def _starts(records: Records) -> str:
    record = records["start"]
    size = f"{record['settings']['num_tags']:,} tags of dim {record['settings']['dim']}"
    told = []
    for form in (start.LOOP, start.RUN):
        seconds = start.first_step_s(form, record).median
        told.append(f"{form} {seconds:.1f} s ({start.verdict_on(seconds)})")
    return (
        f"From the birth of a process to its first step at {size}, kernels and data cached, {machine_of(record)}: "
        f"{', '.join(told)}; wanted are {start.WANTED_S:g} s at most"
    )


def _range(values: list[float], form: str) -> str:
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"


PARTS: dict[str, Callable[[Records], str]] = {
    "cards": cards_part,
    "rivals": rivals_part,
    "verdicts": verdicts_part,
    "tally": tally_part,
    "start": start_part,
    "gates": gates_part,
    "slow_memory": slow_memory_part,
    "run_quality": quality_part,
    "worker_quality": workers_part,
    "head": head_part,
    "gpu_only": gpu_only_part,
    "gpu_only_by_hand": gpu_only_by_hand_part,
    "row_lr": rates_part,
    **CARD_PARTS,
    **PIPELINE_PARTS,
}
"""Name -> what makes it; each stands in one of the documents of `benchmarks.report`."""
