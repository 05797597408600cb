"""Exits with an error unless a run's loss fell and its training pictures are tagged better than by popularity."""

import sys

import numpy as np

from hybrid.evaluation import evaluate
from hybrid.loaded import load
from hybrid.metrics_log import read_metrics
from hybrid.truths import select_truths

MAX_ITEMS = 512


def main(directory: str) -> None:
    """Check the run in a directory."""
    run = load(directory)
    losses = [line["loss"] for line in read_metrics(run.directory.metrics_file) if line["kind"] == "train"]
    first, last = np.mean(losses[:3]), np.mean(losses[-3:])
    measured = measure_training_items(run)
    ours, popular = measured["P@5"], measured["popularity"]["P@5"]
    print(f"loss {first:.3f} -> {last:.3f}; P@5 on training pictures {ours:.3f}, popularity {popular:.3f}")
    if not last < first:
        sys.exit("the loss did not fall")
    if not ours > popular:
        sys.exit("the run tags its training pictures no better than popularity does")


def measure_training_items(run):
    """The table of measures on some training items."""
    view = run.view
    items, features = run.features.of_items(view, np.asarray(view.train_items)[:MAX_ITEMS], run.rows.dim)
    truths = select_truths(view.item_offsets, view.item_tags, view.num_unseen_tags, items)
    counts = view.vocabulary.counts
    return evaluate(features, run.rows, run.score_bias_N(), truths, counts, len(view.train_items), run.device)


if __name__ == "__main__":
    main(sys.argv[1])
