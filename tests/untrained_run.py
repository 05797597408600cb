"""A run over a folder of plain colours, with a trunk and rows that were not trained."""

from pathlib import Path

import tomli_w
import torch
from PIL import Image

from hybrid.checkpoint import save_checkpoint
from hybrid.data.prepare import prepare
from hybrid.features import FeatureMaker
from hybrid.image_index import ImageIndex
from hybrid.rundir import RunDirectory
from hybrid.trunks import build_trunk
from launch.config import DataConfig, RunConfig, TrunkConfig
from workers.matrix import TagMatrix
from workers.settings import to_plain

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220), "花": (240, 120, 200)}


def make_untrained_run(root: Path) -> RunDirectory:
    """The run `root/run` at step 1, with its index; its pictures are in `root/photos`."""
    (root / "photos").mkdir()
    for number in range(60):
        name = list(COLOURS)[number % 4]
        photo = Image.new("RGB", (20, 16), COLOURS[name])
        photo.putpixel((0, 0), (number, 0, 0))  # or copies would all be on one side
        photo.save(root / "photos" / f"{number:02}.png")
        (root / "photos" / f"{number:02}.txt").write_text(f"{name}, plain")
    config = RunConfig(
        data=DataConfig(source=f"folder:{root / 'photos'}", image_size=16, cache_dir=str(root / "cache")),
        trunk=TrunkConfig(dim=8, device="cpu", precision="float32"),
    )
    directory = RunDirectory(root / "run")
    directory.path.mkdir()
    directory.config_file.write_text(tomli_w.dumps(to_plain(config)))
    view = prepare(config.data)
    view.vocabulary.save(directory.vocabulary)
    torch.manual_seed(0)
    trunk = build_trunk(config.trunk, 16)
    matrix = TagMatrix.create(len(view.vocabulary), 8, config=config.head, counts=view.vocabulary.counts)
    optimizer = torch.optim.AdamW(trunk.parameters())
    cpu = torch.device("cpu")
    parts = {"trunk": trunk, "optimizer": optimizer, "matrix": matrix, "head": config.head}
    save_checkpoint(directory.checkpoints, step=1, progress={}, device=cpu, **parts)
    matrix.close()
    found = FeatureMaker(trunk, 16, cpu, torch.float32).of_items(view, view.test_items, 8)
    ImageIndex(*found, view.content, step=1).save(directory.index)
    return directory
