"""What distinguishes the kernel with private negatives: sequential over examples, merged within one."""

import numpy as np
import pytest
from wide_cases import assert_equal, make_chunk, make_config, make_matrix, random_features, run_both

from workers import kernel_private
from workers.engine import WideEngine
from workers.fetching import FAR_BYTES
from workers.jit import JIT_ENABLED

CONFIG = make_config(private_negatives=True, negatives=6)
POSITIVES = [[1, 2], [2, 3], [], [2], [7, 7]]


def test_later_examples_see_earlier_updates():
    """The same example twice: without updates both losses are equal, with them the second has learned."""
    config = make_config(private_negatives=True, negatives=1)
    features_BD = np.repeat(random_features(1), 2, axis=0)
    losses = {}
    for update in (False, True):
        chunk = make_chunk(features_BD, [[4]] * 2, [list(range(60))] * 2, num_negatives=1, update=update)
        losses[update] = WideEngine(make_matrix(config), config).apply(chunk).loss_B.copy()
    assert losses[False][0] == losses[False][1] == losses[True][0]
    assert losses[True][1] < losses[True][0]


def test_adagrad_sees_single_examples():
    """Two equal examples in a row: the accumulator grows twice, by a square each."""
    config = make_config(private_negatives=True, negatives=1)
    features_BD = np.repeat(random_features(1), 2, axis=0)
    gains = []
    for count in (1, 2):
        matrix = make_matrix(config)
        before = matrix.tag_state_N4[4, 1]
        chunk = make_chunk(features_BD[:count], [[4]] * count, [list(range(60))] * count, num_negatives=1, row_lr=0.0)
        WideEngine(matrix, config).apply(chunk)
        gains.append(matrix.tag_state_N4[4, 1] - before)
    assert gains[1] == pytest.approx(2 * gains[0], rel=1e-4)


def test_examples_draw_their_own_negatives():
    """Without positives an example writes exactly its distinct negatives: six draws each, not the same six."""
    written = []
    for b in range(2):
        matrix = make_matrix(CONFIG)
        before = matrix.rows_ND.copy()
        features_BD = np.zeros((2, 8), np.float32)
        features_BD[b] = 1  # the other example's gradient is 0 for rows
        WideEngine(matrix, CONFIG).apply(make_chunk(features_BD, [[], []], [[], []], num_negatives=6))
        written.append(set(np.flatnonzero((matrix.rows_ND != before).any(axis=1)).tolist()))
    assert 1 <= len(written[0]) <= 6
    assert written[0] != written[1]


def test_chunks_of_other_sizes_follow_each_other():
    """Working memory that a larger chunk left behind serves smaller ones."""
    config, chunks = make_config(private_negatives=True), []
    for step, (num_examples, num_drawn) in enumerate([(9, 24), (2, 24), (7, 3), (1, 40), (9, 24), (3, 1)]):
        positives = [[b % 5, 30 + b] for b in range(num_examples)]
        features_BD = random_features(num_examples)
        changes = {"num_negatives": num_drawn, "step": step, "row_lr": 0.02}
        chunks.append(make_chunk(features_BD, positives, positives, **changes))
        assert_equal(run_both(make_matrix(config), config, *chunks), tolerance=2e-5)


def test_rows_that_are_touched_far_ahead_are_updated_as_others(monkeypatch):
    config = make_config(private_negatives=True)
    positives = [[b % 5, 30 + b] for b in range(9)]
    chunk = make_chunk(random_features(9), positives, positives, row_lr=0.02)
    results = {}
    for far_bytes in (0, FAR_BYTES):
        monkeypatch.setattr(kernel_private, "FAR_BYTES", far_bytes)
        matrix = make_matrix(config)
        reply = WideEngine(matrix, config).apply(chunk)
        results[far_bytes] = reply.loss_B.tobytes(), reply.feature_grad_BD.tobytes(), matrix.rows_ND.tobytes()
    assert results[0] == results[FAR_BYTES]


def test_truth_of_a_neighbour_does_not_mask():
    """Each example's true ids end where the next one's start."""
    truth = [[1], [5, 9], [20, 30, 40], [59], list(range(0, 60, 2))]
    for seed in range(5):
        both = run_both(
            make_matrix(CONFIG), CONFIG, make_chunk(random_features(), POSITIVES, truth, seed=seed, num_negatives=30)
        )
        assert_equal(both)


@pytest.mark.skipif(not JIT_ENABLED, reason="too many numbers for plain Python")
@pytest.mark.parametrize("objective", ["negative-sampling", "sampled-softmax"])
def test_real_sizes(objective):
    config = make_config(objective=objective, private_negatives=True, negatives=20, init_scale=0.3)
    matrix = make_matrix(config, num_tags=2_000, dim=36)  # which other tests compile, too
    rng = np.random.default_rng(5)
    truth = [np.sort(rng.choice(2_000, 300, replace=False)).tolist() for _ in range(64)]
    positives = [rng.choice(t, 16, replace=False).tolist() for t in truth]
    both = run_both(
        matrix, config, make_chunk(random_features(64, 36), positives, truth, num_negatives=20, row_lr=0.01)
    )
    assert both.reply.accidental_hits > 50
    assert_equal(both)
