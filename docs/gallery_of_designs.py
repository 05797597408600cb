"""Writes a run's gallery with pictures of some designs only: `python docs/gallery_of_designs.py RUN FILE DESIGN...`.

README's picture is a screenshot of what it writes for `noto` and `fluent-emoji-flat`, whose licences (Apache-2.0, MIT)
let everybody show them.
"""

import sys
from pathlib import Path

import numpy as np

import hybrid
from hybrid.gallery import write_gallery
from hybrid.image_index import ImageIndex
from hybrid.metrics_log import read_metrics


def main(run_name: str, file: str, designs: list[str]) -> None:
    """Write the gallery of a run for some designs."""
    run = hybrid.load(run_name)
    view, index = run.view, run.index
    wanted = [view.group_names.index(design) for design in designs]
    is_wanted_I = np.isin(view.group[index.items_I], wanted)
    write_gallery(
        Path(file),
        name=run.directory.path.name,
        config=run.config,
        pictures=view,
        index=ImageIndex(index.items_I[is_wanted_I], index.features_ID[is_wanted_I], index.fingerprint, index.step),
        rows=run.rows,
        tables=run.directory.results(),
        lines=read_metrics(run.directory.metrics_file),
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
