"""The parts of documents that compare the hybrid with its rivals after equal seconds of training."""

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks import gpu_only_report
from benchmarks.curve_settings import DRAWS, RIVAL_NAMES, STRONGER_NAMES
from benchmarks.markdown import markdown_table
from benchmarks.record import machine_of
from benchmarks.rival_verdicts import JUDGED, LEVEL, SUITE, Verdict, elsewhere_of, verdicts
from benchmarks.tuned_rates import SEARCH_NAME, best_rates

Records = Mapping[str, Mapping[str, Any]]
_BY_HAND = "gpu_only_by_hand"
_LEVEL = " and ".join(f"{apart:g} of {measure}" for measure, apart in LEVEL.items())
_STANDINGS = {
    "ahead": "ahead of the best rival",
    "level": "level with the best rival",
    "behind": "behind the best rival",
}


def gpu_only_part(records: Records) -> str:
    """Every contender at every size, and how often the hybrid loses."""
    record = records["gpu_only"]
    lost: dict[str, list[str]] = {}
    for size, measure in (line.partition(":")[0].split(", ", 1) for line in gpu_only_report.losses(record)):
        lost.setdefault(size, []).append(measure)
    losses = [
        f"At {size} some rival is better than the hybrids' mean in {'; '.join(measures)}."
        for size, measures in lost.items()
    ]
    if losses:
        losses.append(f"Of these, differences of up to {_LEVEL} are within luck: level.")
    text = f"{record['settings']['seconds']:.0f} seconds of training each, {machine_of(record)}:"
    return "\n\n".join(
        [text, gpu_only_report.contenders_table(record), " ".join(losses) or "No rival is better in anything."]
    )


def rivals_part(records: Records) -> str:
    """The hybrid against the best rival of every size in any run; a loss is called one."""
    record, rows = records[SUITE], []
    for verdict in _verdicts(records):
        cells = [f"{value:.3f} ({name})" for name, value in (verdict.ours, verdict.theirs)]
        rows.append([f"{verdict.num_tags:,}", verdict.measure, *cells, f"**{verdict.word}**"])
    table = markdown_table(["tags", "", "hybrid", "best rival", "the hybrid is"], rows)
    seconds = f"{record['settings']['seconds']:.0f} seconds of training each, {machine_of(record)}"
    return f"{seconds}; level: at most {_LEVEL} apart.\n\n{table}"


def verdicts_part(records: Records) -> str:
    """A sentence for each measure: at which sizes the hybrid is ahead of the best rival, level, behind."""
    found, sentences = list(_verdicts(records)), []
    for measure in JUDGED:
        clauses = []
        for word, standing in _STANDINGS.items():
            sizes = [f"{v.num_tags:,}" for v in found if (v.measure, v.word) == (measure, word)]
            if sizes:
                clauses.append(f"{standing} at {' and '.join(filter(None, (', '.join(sizes[:-1]), sizes[-1])))} tags")
        if clauses:
            sentences.append(f"In {measure} the hybrid is {', '.join(clauses)}.")
    return " ".join(sentences) or "Not measured: one side is missing."


def _verdicts(records: Records) -> Iterator[Verdict]:
    elsewhere = elsewhere_of(SUITE, records)
    for num_tags, results in gpu_only_report.by_size(records[SUITE]).items():
        yield from verdicts(num_tags, results, elsewhere)


def gpu_only_by_hand_part(records: Records) -> str:
    """The sampled rival by hand, in a run of its own."""
    record = records[_BY_HAND]
    text = f"{record['settings']['seconds']:.0f} seconds of training each, in a run of their own:"
    parts = [text, gpu_only_report.contenders_table(record)]
    if _BY_HAND not in elsewhere_of(SUITE, records):
        parts.append("Its data or conditions are not those of the comparison above, so no verdict counts it.")
    return "\n\n".join(parts)


def rates_part(records: Records) -> str:
    """Which rates, and draws of those that may choose them, the search would now choose otherwise than was trained."""
    trained, found = set(), []
    for name in (SUITE, _BY_HAND):
        for settings in (result["settings"] for result in records[name]["results"]):
            searched = best_rates(records[SEARCH_NAME], settings["device"], settings["max_items"])
            kind, max_tags = settings["kind"], settings["max_tags"]
            used = settings["row_lr"], (settings["positives"], settings["negatives"])
            trained.add((kind, max_tags))
            if (best := searched.get((kind, max_tags), used)) != used:
                size = f"{max_tags:,} tags" if max_tags else "all tags"
                who = (RIVAL_NAMES | STRONGER_NAMES).get(kind, kind)
                change = f"- {who} at {size}: {_choice(kind, *best)}, trained with {_choice(kind, *used)}"
                found += [change] if change not in found else []
    if not found:
        return f"All {len(trained)} were trained with what this search chose."
    others = f"Of {len(trained)} it chose otherwise for {len(found)}, which have not been trained so:"
    return "\n\n".join([others, "\n".join(found)])


def _choice(kind: str, row_lr: float, draws: tuple[int, int]) -> str:
    return f"{row_lr:g}" + (f" with {draws[0]} + {draws[1]:,} draws" if kind in DRAWS else "")
