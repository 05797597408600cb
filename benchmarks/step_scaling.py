"""How long a step of trunk and output layer takes as tags grow: `python -m benchmarks.step_scaling --help`."""

# Shapes: B examples of a batch, I items.

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.command_line import add_results, positive_int, run_program
from benchmarks.contender import TaggedItems, open_contender
from benchmarks.curve_settings import ALL_KINDS, KINDS, CurveSettings, default_run
from benchmarks.environment import restart_if_blas_is_forced
from benchmarks.page import print_pages, write_page
from benchmarks.record import Record
from benchmarks.step_scaling_report import TRUNK_ALONE, report_text
from benchmarks.synthetic_tags import SyntheticTags
from hybrid.device import choose_device, describe
from hybrid.graph_place import WARM_UPS
from hybrid.tag_batch import ItemNumbers
from hybrid.trainer import Trainer
from launch.config import DEVICES, DataConfig, TrainConfig, TrunkConfig

NAME = "step_scaling"
NUM_ITEMS, WARM_UP_STEPS = 4096, 2 * WARM_UPS + 1
_ENDLESS_EPOCHS = 1e6
_DEFAULTS: dict[str, dict[str, Any]] = {
    "cuda": {"tags": [100_000, 1_000_000, 10_000_000], "trunk": "resnet18", "batch_size": 256},
    "cpu": {"tags": [10_000, 100_000], "trunk": TrunkConfig().factory, "batch_size": TrainConfig().batch_size},
}
"""By device: on a CPU scoring ten million tags would take minutes a step."""


def main() -> None:
    """Time every contender at every size, write JSON after each, then the table."""
    restart_if_blas_is_forced()
    options = _options()
    device = choose_device(options.device)
    curves, settings = contenders(options), vars(options) | {"device_found": describe(device)}
    record = Record(options.name, f"A step of trunk and output layer, on {describe(device)}", settings)
    for num_tags in options.tags:
        items = made_up_items(num_tags, options.tags_per_example)
        for contender in [None, *curves]:
            result = measure(contender, num_tags, items, options)
            print(f"{num_tags:,} tags, {result['contender']}: {_summary(result)}", flush=True)
            record.add(result)
            path = record.write(options.results)
    print_pages(path, write_page(path, report_text))


def contenders(options: argparse.Namespace) -> list[CurveSettings]:
    """Rivals once, the hybrid once for each number of workers."""
    return [
        _settings(kind, workers, options)
        for kind in options.contenders
        for workers in (options.workers if kind == "hybrid" else (0,))
    ]


def _settings(kind: str, workers: int, options: argparse.Namespace) -> CurveSettings:
    curve = CurveSettings(
        kind=kind,
        workers=workers,
        epochs=_ENDLESS_EPOCHS,
        positives=options.tags_per_example,
        device=choose_device(options.device).type,
        trunk=options.trunk,
        dim=options.dim,
        image_size=options.image_size,
        batch_size=options.batch_size,
    )
    return curve.with_chunks_of_a_run() if kind == "hybrid" else curve


def made_up_items(num_tags: int, tags_per_example: int) -> TaggedItems:
    """Items whose true tags follow Zipf's law."""
    tags = SyntheticTags(num_tags, seed=0)
    _, true = tags.batch(NUM_ITEMS, 1, tags_per_example)
    return TaggedItems(
        counts_N=tags.counts_N,
        marginal_N=tags.counts_N / tags.counts_N.sum(),
        item_offsets=true.offsets,
        item_tags=true.ids,
        num_train_items=num_tags,  # the most frequent tag is on all of them, though only some are trained on
    )


def measure(
    contender: CurveSettings | None, num_tags: int, items: TaggedItems, options: argparse.Namespace
) -> dict[str, Any]:
    """Milliseconds of each timed step, and memory; of a layer that does not fit on the card, that it does not.

    None stands for the trunk alone. On a card, which is asked when a step is over, `wait_ms` are of the step before.
    """
    is_cuda = choose_device(options.device).type == "cuda"
    gc.collect()
    if is_cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    name = TRUNK_ALONE if contender is None else contender.name
    result: dict[str, Any] = {"contender": name, "num_tags": num_tags, "fits": True, "samples": {"step_ms": []}}
    try:
        steps_ms, waits_ms = _times(contender, items, options)
    except torch.cuda.OutOfMemoryError as e:
        return result | {"fits": False, "reason": str(e).partition(". ")[0]}
    return result | {
        "step_ms": statistics.median(steps_ms),
        "wait_ms": statistics.median(waits_ms),
        "gpu_memory_bytes": torch.cuda.max_memory_allocated() if is_cuda else None,
        "samples": {"step_ms": steps_ms, "wait_ms": waits_ms},
    }


def _times(
    contender: CurveSettings | None, items: TaggedItems, options: argparse.Namespace
) -> tuple[list[float], list[float]]:
    """Milliseconds of each timed step, and for how many of them the trunk waited for workers."""
    if contender is None:  # the trainer of any, with hardly a layer
        with open_contender(_settings("dense", 0, options), made_up_items(1, 1)) as (trainer, _, _):
            return _timed(trainer.device, options, lambda images, batch: _trunk_step(trainer, images))
    with open_contender(contender, items) as (trainer, _, budget), budget.running():
        trainer.threads = None  # its trials would be among the steps that are timed
        return _timed(trainer.device, options, lambda images, batch: _step(trainer, images, batch))


def _timed(
    device: torch.device, options: argparse.Namespace, step: Callable[[torch.Tensor, NDArray[np.int64]], float]
) -> tuple[list[float], list[float]]:
    generator, rng = torch.Generator().manual_seed(0), np.random.default_rng(0)
    side = options.image_size
    images = torch.randn(options.batch_size, 3, side, side, generator=generator).to(device)
    images = images.contiguous(memory_format=torch.channels_last)
    steps_ms, waits_ms = [], []
    for _ in range(WARM_UP_STEPS + options.steps):
        batch = rng.integers(0, NUM_ITEMS, options.batch_size)
        start_s = time.perf_counter()
        wait_s = step(images, batch)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        steps_ms.append(1000 * (time.perf_counter() - start_s))
        waits_ms.append(1000 * wait_s)
    return steps_ms[WARM_UP_STEPS:], waits_ms[WARM_UP_STEPS:]


def _step(trainer: Trainer, images: torch.Tensor, batch: NDArray[np.int64]) -> float:
    return trainer.step(images, ItemNumbers(batch)).wait_s


def _trunk_step(trainer: Trainer, images: torch.Tensor) -> float:
    """Forward, backward and the optimizer, with a gradient of ones in the place of the output layer's."""
    trainer.trunk.train()
    trainer.optimizer.zero_grad(set_to_none=True)
    passes = trainer.pipeline.passes
    features_BD = passes.forward(images, 0)
    passes.backward(features_BD, torch.ones_like(features_BD), 0)
    trainer.optimizer_step(passes.totals)
    return 0.0


def _summary(result: dict[str, Any]) -> str:
    return f"{result['step_ms']:.1f} ms" if result["fits"] else f"does not fit ({result['reason']})"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step_scaling", description=__doc__)
    by_device = "default: by device, larger on a card"
    pixels = DataConfig().image_size
    parser.add_argument("--tags", type=positive_int, nargs="+", help=by_device)
    parser.add_argument("--contenders", nargs="+", default=list(KINDS), choices=ALL_KINDS)
    parser.add_argument("--workers", type=positive_int, nargs="+", help="of the hybrid; default: a run's on the device")
    parser.add_argument("--trunk", help=f"as in `hybrid train`; {by_device}")
    parser.add_argument("--dim", type=positive_int, default=TrunkConfig().dim)
    parser.add_argument("--image-size", type=positive_int, default=pixels, help="of the trunk's pictures")
    parser.add_argument("--batch-size", type=positive_int, help=by_device)
    parser.add_argument("--tags-per-example", type=positive_int, default=20)
    parser.add_argument("--steps", type=positive_int, default=20, help="timed steps, after a few that are not")
    parser.add_argument("--device", default="auto", choices=DEVICES)
    parser.add_argument("--name", default=NAME, help="of the files in the results folder")
    add_results(parser)
    options = parser.parse_args()
    device = choose_device(options.device).type
    for name, value in _DEFAULTS[device].items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    options.workers = options.workers or [default_run(device, options.batch_size).workers]
    return options


if __name__ == "__main__":
    run_program(main)
