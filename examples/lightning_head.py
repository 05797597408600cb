"""A LightningModule with a `WideHead` as its output layer.

    .venv/bin/pip install -c constraints.txt -e '.[lightning]'
    .venv/bin/python examples/lightning_head.py --steps 100

What differs from any other LightningModule: the rows live in the head's workers, not in the `state_dict`. So the first
`setup` makes the head, it lives through `fit`, `validate` and `test` until `close`, and a checkpoint names its rows.
`validation_step` runs under `eval()` and without gradients, so that it leaves the rows alone. Use one device: each of
several would need a head of its own, which is refused.
"""

import argparse
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from plain_loop import (
    ALPHA,
    HELD_OUT,
    ROW_LR,
    TRAINING,
    count_tags,
    make_loader,
    make_trunk,
    precision_at_3,
    use_free_cores,
)
from torch.utils.data import DataLoader, IterableDataset

from hybrid import WideHead

try:
    import lightning
except ModuleNotFoundError:
    raise SystemExit("lightning is not installed: .venv/bin/pip install -c constraints.txt -e '.[lightning]'") from None


class Batches(IterableDataset[Any]):
    """The synthetic pictures of `plain_loop.py`, in whole batches."""

    def __init__(self, num_tags: int, steps: int, seed: int) -> None:
        self.num_tags, self.steps, self.seed = num_tags, steps, seed

    def __iter__(self) -> Iterator[Any]:
        return make_loader(self.num_tags, self.steps, self.seed)


class Tagger(lightning.LightningModule):
    """A trunk that learns by the optimizer, under a head whose rows learn by themselves."""

    def __init__(self, num_tags: int, dim: int, workers: int, tag_counts: np.ndarray) -> None:
        super().__init__()
        self.save_hyperparameters(ignore="tag_counts")
        self.tag_counts = tag_counts
        self.trunk = make_trunk(dim)
        self.head: WideHead | None = None

    def setup(self, stage: str) -> None:
        """Start the workers, once: every stage comes here, and begins with what the rows learned before."""
        if self.head is None:
            given = self.hparams
            self.head = WideHead(
                given["num_tags"],
                given["dim"],
                given["workers"],
                tag_counts=self.tag_counts,
                alpha=ALPHA,
                row_lr=ROW_LR,
            )

    def close(self) -> None:
        """Stop them."""
        if self.head is not None:
            self.head.close()
            self.head = None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the rows of this step in a folder of their own."""
        assert self.head is not None
        folder = Path(self.trainer.default_root_dir).absolute() / f"head-{self.global_step}"
        self.head.save(folder)
        checkpoint["head"] = str(folder)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the rows that belong to the trunk which is loaded."""
        self.close()
        self.head = WideHead.load(checkpoint["head"], self.hparams["workers"])

    def training_step(self, batch: Any, number: int) -> torch.Tensor:
        """Lightning's `backward` on this loss carries the workers' feature gradient into the trunk."""
        assert self.head is not None
        images, tags = batch
        loss = self.head(self.trunk(images), tags)
        self.log("train_loss", loss, prog_bar=True, batch_size=len(images))
        return loss

    def validation_step(self, batch: Any, number: int) -> None:
        """Share of the three best tags that are true."""
        assert self.head is not None
        images, tags = batch
        ids, _ = self.head.topk(self.trunk(images), k=3)
        self.log("P@3", precision_at_3(ids, tags), batch_size=len(images))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The rows are no parameters: this optimizer sees the trunk alone."""
        return torch.optim.AdamW(self.parameters(), lr=0.003)


def main() -> None:
    """Train and validate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tags", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()

    use_free_cores(options.workers)
    trainer = lightning.Trainer(
        max_epochs=1,
        devices=1,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    train = DataLoader(Batches(options.tags, options.steps, TRAINING), batch_size=None)
    valid = DataLoader(Batches(options.tags, 1, HELD_OUT), batch_size=None)
    counts = count_tags(options.tags, options.steps)
    with closing(Tagger(options.tags, options.dim, options.workers, counts)) as tagger:
        trainer.fit(tagger, train)
        (measures,) = trainer.validate(tagger, valid, verbose=False)
    print(f"P@3 among {options.tags:,} tags: {measures['P@3']:.3f}")


if __name__ == "__main__":
    main()
