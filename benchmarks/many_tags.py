"""A folder of a few pictures that carry very many tags, for starts of `hybrid train` at any size."""

from pathlib import Path

import numpy as np
from PIL import Image

_PICTURES = 1000
_COPIES = 3
"""Pictures that carry a tag: so nearly all tags have one that trains."""
_SPARE = 1.1
"""Tags that are written for each one wanted."""
_SIDE = 48


def write_folder(folder: Path, num_tags: int) -> None:
    """Pictures of noise and a manifest; of its tags at least `num_tags` are known in training, nearly certainly."""
    rng = np.random.default_rng(0)
    written = round(_SPARE * num_tags) + _PICTURES
    tags_of: list[list[str]] = [[] for _ in range(_PICTURES)]
    for _ in range(_COPIES):
        for tag, picture in enumerate(rng.permutation(written) % _PICTURES):
            tags_of[picture].append(f"t{tag}")
    folder.mkdir(parents=True)
    for number in range(_PICTURES):
        Image.fromarray(rng.integers(0, 256, (_SIDE, _SIDE, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    lines = ["\t".join([f"{number}.png", *tags]) for number, tags in enumerate(tags_of)]
    (folder / "manifest.tsv").write_text("\n".join(lines) + "\n")
