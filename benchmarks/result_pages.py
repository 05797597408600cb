"""The page in Markdown that stands beside every JSON of results."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks import (
    auto_negatives_report,
    gpu_only_report,
    head_report,
    memory_report,
    row_lr_search,
    run_quality,
    start,
    step_scaling_report,
    worker_quality,
)
from benchmarks.pipeline_model import model_text
from benchmarks.record import RESULTS, read_record
from benchmarks.rival_forms import naming_missed_forms
from benchmarks.rival_verdicts import SUITE, elsewhere_of
from benchmarks.verdict_table import verdict_page
from benchmarks.verdicts import judged_again
from workers.disk import write_whole
from workers.errors import DataError

Record = Mapping[str, Any]
Page = Callable[[Record], str]

_PAGES: dict[str, Page] = {
    "auto_negatives": auto_negatives_report.report_text,
    "head_memory": head_report.memory_text,
    "head_scaling": head_report.scaling_text,
    "memory_limits": memory_report.report_text,
    "row_lr_search": row_lr_search.report_text,
    "run_quality": run_quality.report_text,
    "start": start.report_text,
    "step_scaling": step_scaling_report.report_text,
    "worker_quality": worker_quality.report_text,
}


def read_records(folder: Path = RESULTS) -> dict[str, Record]:
    """All results of a folder, by name of their file."""
    return {path.stem: read_record(path) for path in sorted(folder.glob("*.json"))}


def is_judged(record: Record) -> bool:
    """Whether its results are measurements with verdicts."""
    return bool(record["results"]) and all("verdict" in result for result in record["results"])


def page_of(name: str, record: Record, folder: Path = RESULTS) -> str:
    """The page, made from the JSON; of a suite that is not known here, the page that it wrote itself.

    Raises:
        DataError: there is none.
    """
    if is_judged(record):
        return judged_page(record)
    if name.startswith(SUITE):
        return gpu_only_report.report_text(record, elsewhere_of(name, {**read_records(folder), name: record}))
    for known, page in _PAGES.items():
        if name.startswith(known):
            return page(record)
    written = folder / f"{name}.md"
    if not written.exists():
        raise DataError(f"{name}.json has no page {written}; add its maker to benchmarks/result_pages.py.")
    return written.read_text(encoding="utf-8")


def judged_page(record: Record) -> str:
    """The page of a suite, whose verdicts are by today's rules, as those in documents are."""
    judged = [judged_again(result) for result in record["results"]]
    told = model_text(record) if record["name"] == "pipeline_efficiency" else ""
    return verdict_page(record, [naming_missed_forms(result, judged) for result in judged], told)


def folders_apart(folder: Path) -> list[Path]:
    """Folders of results below one: each of another machine."""
    return sorted(path for path in folder.iterdir() if path.is_dir())


def write_pages(folder: Path = RESULTS) -> None:
    """Make all pages again from the JSON, those of other machines too."""
    for place in (folder, *folders_apart(folder)):
        for name, record in read_records(place).items():
            write_whole(place / f"{name}.md", page_of(name, record, place))
