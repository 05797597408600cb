"""The parts of documents that say what was measured on a machine with a card."""

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks import gpu_only_report
from benchmarks.chunked_head import CUDA_LOGITS
from benchmarks.curve_settings import RIVAL_NAMES
from benchmarks.gates import GATES, words_of_today
from benchmarks.markdown import markdown_table
from benchmarks.memory_model import NEEDS, StepShape
from benchmarks.record import RESULTS, machine_of, read_record, shown_command
from benchmarks.rival_verdicts import is_hybrid, verdicts
from benchmarks.step_scaling_report import TRUNK_ALONE, steps_table
from benchmarks.verdict_table import tally, verdicts_markdown

Records = Mapping[str, Mapping[str, Any]]
CARD = RESULTS / "h100"
"""Results of the one machine with a card on which anything was measured so far."""
BARE_ROW = "ceiling at 256"
"""Name of the measurement in the results of `benchmarks.kernels`."""
_MIB, _GIB = 1 << 20, 1 << 30


def card_steps_part(_: Records) -> str:
    """The time of a step by number of tags: the trunk alone, the hybrid, the layers on the card."""
    record = card_record("step_scaling")
    settings, by_size = record["settings"], _steps(record)
    rows, names = [], _shown(by_size)
    for name in names:
        found = [steps.get(name) for steps in by_size.values()]
        last = found[-1]
        times = [f"{result['step_ms']:.0f}" if result else "does not fit" for result in found]
        rows.append([name, *times, f"{last['gpu_memory_bytes'] / _GIB:.1f}" if last else ""])
    header = ["output layer", *(f"{num_tags:,} tags, ms" for num_tags in by_size), "on the card, GiB"]
    waited = [100 * s[names[1]]["wait_ms"] / s[names[1]]["step_ms"] for s in by_size.values() if names[1] in s]
    text = (
        f"A step of {settings['trunk']} ({settings['image_size']} pixels, batches of {settings['batch_size']}, rows of "
        f"dim {settings['dim']}, {settings['tags_per_example']} true tags of each example), {machine_of(record)}; the "
        f"last column with the most tags. The hybrid's trunk waited for workers {min(waited):.0f} to "
        f"{max(waited):.0f}% of a step."
    )
    return "\n\n".join(filter(None, [text, markdown_table(header, rows), _lost_steps(by_size, names[1])]))


def _lost_steps(by_size: Mapping[int, Mapping[str, Any]], ours: str) -> str:
    """By size, which layers had the shorter step in the median; empty if none had."""
    lost = []
    for num_tags, steps in by_size.items():
        rivals = [name for name in steps if name != TRUNK_ALONE and not name.startswith("hybrid")]
        faster = [name for name in rivals if ours in steps and steps[name]["step_ms"] < steps[ours]["step_ms"]]
        if faster:
            lost.append(f"at {num_tags:,} tags to {' and '.join(faster)}")
    return f"The hybrid's step **loses** {'; '.join(lost)}." if lost else ""


def card_curves_part(_: Records) -> str:
    """Who learned more in equal seconds; a loss is called one."""
    record = card_record("gpu_only")
    clauses = [
        f"at {num_tags:,} tags {verdict.measure} is {verdict.ours[1]:.3f} against {verdict.theirs[1]:.3f} "
        f"({verdict.theirs[0]}): the hybrid is **{verdict.word}**"
        for num_tags, results in gpu_only_report.by_size(record).items()
        for verdict in verdicts(num_tags, results)
    ]
    trunk = record["results"][0]["run_config"]["trunk"]["factory"]
    waits = [
        100 * result["phase_ms"]["wait"] / sum(result["phase_ms"].values())
        for result in record["results"]
        if is_hybrid(result)
    ]
    return (
        f"After {record['settings']['seconds']:.0f} seconds of training each on emoji with {trunk}, one run each, "
        f"{'; '.join(clauses)}. The hybrid's host waited for workers {max(waits):.0f}% of the time."
    )


def card_contenders_part(_: Records) -> str:
    """Every contender after equal seconds."""
    record = card_record("gpu_only")
    return f"{gpu_only_report.contenders_table(record)}\n\n{_command(record)}"


def card_table_part(_: Records) -> str:
    """Every step that was timed, with its spread."""
    record = card_record("step_scaling")
    return f"{steps_table(record)}\n\n{_command(record)}"


def card_memory_part(_: Records) -> str:
    """What layers took on the card beside the trunk, and what `benchmarks.memory_model` says that they need."""
    record = card_record("step_scaling")
    settings, by_size, rows = record["settings"], _steps(record), []
    shape = StepShape(
        dim=settings["dim"],
        batch_size=settings["batch_size"],
        positives=settings["tags_per_example"],
        tags_per_example=settings["tags_per_example"],
        product_bytes=2,
        chunk_logits=CUDA_LOGITS,
    )
    for num_tags, steps in by_size.items():
        trunk, size = steps[TRUNK_ALONE]["gpu_memory_bytes"], f"{num_tags:,}"
        for name, result in steps.items():
            kind = next((kind for kind, known in RIVAL_NAMES.items() if name.partition(",")[0] == known), None)
            if kind is not None:
                predicted, taken = NEEDS[kind](num_tags, shape).device, result["gpu_memory_bytes"] - trunk
                figures = [f"{predicted / _MIB:,.0f}", f"{taken / _MIB:,.0f}", f"{predicted / taken - 1:+.0%}"]
                rows.append([size, name, *figures])
                size = ""
    return markdown_table(["tags", "output layer", "predicted, MiB", "taken, MiB", "apart"], rows)


def card_host_part(_: Records) -> str:
    """The wide engine on that machine's cores: gates, and more workers."""
    records = [card_record(name) for name in ("kernels", "scaling")]
    found = {result["name"]: _of_today(result) for record in records for result in record["results"]}
    judged = [found[name] for name in GATES if name in found]
    rows = judged + [result for name, result in found.items() if name.startswith(("workers_", BARE_ROW))]
    commands = " ".join(map(_command, records))
    return f"{_sentence(machine_of(records[0]))}: {tally(judged)}\n\n{verdicts_markdown(rows)}\n\n{commands}"


def _of_today(result: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**result, "what": words_of_today(result["what"])}


def card_record(name: str) -> Mapping[str, Any]:
    """Results of that machine.

    Raises:
        KeyError: there are none.
    """
    path = CARD / f"{name}.json"
    if not path.exists():
        raise KeyError(f"{CARD.name}/{name}")
    return read_record(path)


def _steps(record: Mapping[str, Any]) -> dict[int, dict[str, Mapping[str, Any]]]:
    """By number of tags and contender, those that fit."""
    found: dict[int, dict[str, Mapping[str, Any]]] = {}
    for result in record["results"]:
        if result["fits"]:
            found.setdefault(result["num_tags"], {})[result["contender"]] = result
    return found


def _shown(by_size: Mapping[int, Mapping[str, Any]]) -> list[str]:
    """The trunk, the hybrid with the fewest workers, as by default, then the rivals; those that fit at any size."""
    names = list(dict.fromkeys(name for steps in by_size.values() for name in steps))
    hybrids = sorted((name for name in names if name.startswith("hybrid")), key=_num_workers)
    return [TRUNK_ALONE, *hybrids[:1], *(name for name in names if name not in (TRUNK_ALONE, *hybrids))]


def _num_workers(name: str) -> int:
    return int(name.split()[1])


def _command(record: Mapping[str, Any]) -> str:
    return f"`{shown_command(record)}`"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


CARD_PARTS: dict[str, Callable[[Records], str]] = {
    "card_steps": card_steps_part,
    "card_curves": card_curves_part,
    "card_contenders": card_contenders_part,
    "card_table": card_table_part,
    "card_memory": card_memory_part,
    "card_host": card_host_part,
}
"""As `generated_parts.PARTS`."""
