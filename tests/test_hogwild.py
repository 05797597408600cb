"""Several processes on one matrix, writing without locks."""

import dataclasses
import subprocess
import sys

import numpy as np
from wide_cases import make_chunk, make_config, random_features

from workers.engine import WideEngine
from workers.matrix import TagMatrix
from workers.worker_stats import EXAMPLES, STALENESS

NUM_CHUNKS = 300
WORK = """
import dataclasses, sys
from test_hogwild import CONFIG, NUM_CHUNKS, lesson
from workers.engine import WideEngine
from workers.matrix import TagMatrix
index = int(sys.argv[2])
engine = WideEngine(TagMatrix.attach(int(sys.argv[1])), CONFIG, worker_index=index)
engine.warm_up()
print("ready", flush=True)
sys.stdin.readline()
for i in range(NUM_CHUNKS):
    engine.apply(dataclasses.replace(lesson(), step=i, chunk=index))
"""
CONFIG = make_config(negatives=32)


def lesson():
    """32 features, each of which has a tag of its own."""
    ids = [[b] for b in range(32)]
    return make_chunk(random_features(32, 16), ids, ids, num_negatives=32, row_lr=0.05)


def test_two_processes_learn_on_the_same_rows():
    matrix = TagMatrix.create(40, 16, config=CONFIG)
    judge = WideEngine(matrix, CONFIG, worker_index=9)
    still = lesson()
    first_loss = judge.apply(make_still(still)).loss_B.mean()
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORK, str(matrix.fd), str(index)],
            pass_fds=[matrix.fd],
            env={"PYTHONPATH": ":".join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in workers:
        worker.communicate(timeout=120)
        assert worker.returncode == 0
    stats = matrix.worker_stats_WS
    assert matrix.applied_W[:2].tolist() == [NUM_CHUNKS] * 2
    assert stats[:2, EXAMPLES].tolist() == [NUM_CHUNKS * 32] * 2
    assert (stats[:2, STALENESS] >= 0).all() and (stats[:2, STALENESS] <= NUM_CHUNKS).all()  # each of the other's, once
    assert np.isfinite(matrix.rows_ND).all()
    assert np.isfinite(matrix.tag_state_N4).all()
    assert judge.apply(make_still(still)).loss_B.mean() < 0.5 * first_loss


def make_still(chunk):
    """The chunk without its update."""
    return dataclasses.replace(chunk, update=False)
