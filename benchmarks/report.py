"""Makes all that shows results, pages, plots, report.html, parts of documents: `python -m benchmarks.report`."""

from pathlib import Path

from benchmarks.command_line import run_program
from benchmarks.generated_parts import fill
from benchmarks.record import RESULTS
from benchmarks.report_page import report_page
from benchmarks.result_pages import folders_apart, page_of, read_records, write_pages
from benchmarks.result_plots import write_plots
from workers.disk import write_whole

REPORT = RESULTS.parent / "report.html"
README = RESULTS.parents[1] / "README.md"
DOCUMENTS = (README, RESULTS.parents[1] / "docs" / "benchmarks.md")
"""With parts that are made from results."""


def main() -> None:
    """Everything that is made from results."""
    records = read_records()
    write_plots(records)
    write_pages()
    write_whole(REPORT, report_of(RESULTS))
    for document in DOCUMENTS:
        write_whole(document, fill(document.read_text(encoding="utf-8"), records))
    print(REPORT, *DOCUMENTS, sep="\n")


def report_of(folder: Path) -> str:
    """The report on the results in a folder; pages of those in folders below it, of another machine, come last."""
    records = read_records(folder)
    pages = {name: page_of(name, record, folder) for name, record in records.items()}
    for apart in folders_apart(folder):
        pages |= {f"{apart.name}/{name}": page_of(name, record, apart) for name, record in read_records(apart).items()}
    plots = {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.svg")}
    return report_page(records, pages, plots)


if __name__ == "__main__":
    run_program(main)
