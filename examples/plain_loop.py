"""A plain PyTorch loop with a `WideHead` as its output layer.

    .venv/bin/python examples/plain_loop.py --tags 100000 --workers 2

The pictures are noise around one prototype per kind, so that the example needs no data; each has three tags out of very
many. At the end the tags of pictures that were not trained on are asked for.
"""

import argparse
import os
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from hybrid import WideHead

NUM_KINDS, SIDE, BATCH_SIZE = 50, 16, 64
TRAINING, HELD_OUT = 1, 2
"""Seeds of pictures."""
ALPHA, ROW_LR = 0.75, 0.05  # chosen for these tiny data: leave both out for your own


def make_loader(num_tags: int, steps: int, seed: int = TRAINING) -> Iterator[tuple[torch.Tensor, list[list[int]]]]:
    """Batches of pictures and their tags: the kind, a group of five kinds, and one far out in the vocabulary."""
    prototypes = torch.randn(NUM_KINDS, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    for kinds in draw_kinds(steps, seed):
        noise = torch.randn(BATCH_SIZE, 3, SIDE, SIDE, generator=generator)
        yield prototypes[kinds] + 0.5 * noise, [true_tags(int(kind), num_tags) for kind in kinds]


def draw_kinds(steps: int, seed: int = TRAINING) -> torch.Tensor:
    """What each picture of each batch shows."""
    return torch.randint(NUM_KINDS, (steps, BATCH_SIZE), generator=torch.Generator().manual_seed(seed))


def true_tags(kind: int, num_tags: int) -> list[int]:
    """Tag ids of a kind."""
    return [kind, NUM_KINDS + kind // 5, num_tags - 1 - kind]


def count_tags(num_tags: int, steps: int) -> np.ndarray:
    """How often each tag occurs in the training data, and once for those that are only thought of.

    Give a head the counts of your data: negatives are then drawn where the data are, and biases start at the tags'
    frequencies. Without counts every tag is as likely a negative as any other, and common ones are suppressed too late.
    """
    counts = np.ones(num_tags, np.int64)
    for kind in draw_kinds(steps).flatten().tolist():
        counts[true_tags(kind, num_tags)] += 1
    return counts


def make_trunk(dim: int) -> nn.Module:
    """Any module that maps pictures to features; a last layer norm keeps their scale."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
        nn.Flatten(), nn.Linear(64 * (SIDE // 4) ** 2, dim), nn.LayerNorm(dim),
    )  # fmt: skip


def precision_at_3(found_ids: torch.Tensor, tags: list[list[int]]) -> float:
    """Share of the three best tags that are true."""
    hits = [len(set(found) & set(true)) for found, true in zip(found_ids.tolist(), tags, strict=True)]
    return sum(hits) / (3 * len(hits))


def use_free_cores(workers: int) -> None:
    """Leave a core to each worker: torch's threads and the workers would otherwise get in each other's way."""
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) - workers))


def main() -> None:
    """Train, then annotate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tags", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()

    use_free_cores(options.workers)
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    trunk = make_trunk(options.dim).to(device)
    optimizer = torch.optim.AdamW(trunk.parameters(), lr=0.003)
    counts = count_tags(options.tags, options.steps)
    with WideHead(options.tags, options.dim, options.workers, tag_counts=counts, alpha=ALPHA, row_lr=ROW_LR) as head:
        for step, (images, tags) in enumerate(make_loader(options.tags, options.steps)):
            optimizer.zero_grad()
            loss = head(trunk(images.to(device)), tags)  # ships features; workers update rows; loss is a scalar tensor
            loss.backward()  # the workers' feature gradient enters autograd here
            optimizer.step()
            if step % 20 == 0 or step == options.steps - 1:
                print(f"step {step}: loss {loss.item():.3f}")
        trunk.eval()
        head.eval()  # from here on nothing changes any more
        images, tags = next(make_loader(options.tags, 1, HELD_OUT))
        with torch.no_grad():
            ids, _ = head.topk(trunk(images.to(device)), k=3)
        print(f"P@3 among {options.tags:,} tags: {precision_at_3(ids, tags):.3f}")


if __name__ == "__main__":
    main()
