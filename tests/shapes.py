"""A folder of drawn shapes with tags that can be seen, and real runs on it."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw
from scripted_trunk import ROOT

from workers.cache_root import cache_root

COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 70, 220), "yellow": (230, 210, 40)}
SHAPES = ("disc", "square", "bar")
SIDE = 24
LIMIT_S = 300.0


def write_shapes(folder: Path, num_images: int) -> None:
    """`0000-red-disc.png` ... each with `red, disc, red disc` beside it; places and sizes vary."""
    folder.mkdir(parents=True)
    kinds = [(colour, shape) for colour in COLOURS for shape in SHAPES]
    for i in range(num_images):
        colour, shape = kinds[i % len(kinds)]
        image = Image.new("RGB", (SIDE, SIDE), "white")
        draw, radius = ImageDraw.Draw(image), 5 + i % 3
        x, y = 8 + (i * 7) % 9, 8 + (i * 5) % 9
        box = (x - radius, y - radius, x + radius, y + radius)
        if shape == "disc":
            draw.ellipse(box, fill=COLOURS[colour])
        elif shape == "square":
            draw.rectangle(box, fill=COLOURS[colour])
        else:
            draw.rectangle((x - radius, y - 2, x + radius, y + 2), fill=COLOURS[colour])
        name = f"{i:04}-{colour}-{shape}"
        image.save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(f"{colour}, {shape}, {colour} {shape}\n")


def train_options(folder: Path, **changes: Any) -> list[str]:
    """`train` and its options for a run of seconds; `changes` by the option's name, None leaves one out."""
    options = {
        "data": f"folder:{folder}",
        "cache_dir": folder.parent / "cache",
        "workers": 2,
        "image_size": 16,
        "dim": 8,
        "batch_size": 16,
        "negatives": 8,
        "lr": 0.01,
        "row_lr": 0.1,
        "epochs": 6,
        "trunk_threads": 1,
        **changes,
    }
    given = {name.replace("_", "-"): value for name, value in options.items() if value is not None}
    return ["train", *(text for name, value in given.items() for text in (f"--{name}", str(value)))]


def hybrid_command(*arguments: str) -> list[str]:
    """A command line of the real `hybrid`."""
    return [sys.executable, "-m", "launch", *arguments]


def hybrid_environment(folder: Path) -> dict[str, str]:
    """Private directories of runs lie in the folder; processes carry its name, for `processes_of`."""
    (folder / "tmp").mkdir(exist_ok=True)
    kernels = str(cache_root())  # those of all tests: with the data of each they would be compiled again and again
    places = {"TMPDIR": str(folder / "tmp"), "MARKER": str(folder), "PYTHONPATH": str(ROOT), "HYBRID_CACHE": kernels}
    return {**os.environ, **places, "COLUMNS": "120"}


def hybrid(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `hybrid ARGUMENTS` in a folder to its end."""
    command, environment = hybrid_command(*arguments), hybrid_environment(folder)
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT_S)


def start_hybrid(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start `hybrid ARGUMENTS` in a folder, in a group of its own, where Ctrl-C counts.

    A shell has what it starts in the background ignore SIGINT; children would inherit that, and a run respects it.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(
        hybrid_command(*arguments),
        cwd=folder,
        env=hybrid_environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
