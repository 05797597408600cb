"""The kernel alone works in the memory that it has within a worker's step."""

from contextlib import closing
from dataclasses import replace

from benchmarks import kernel_work
from benchmarks.engine_work import PRIVATE, make_matrix
from benchmarks.id_streams import make_stream

DIM = 16


def test_all_plans_share_one_answer_as_a_workers_chunks_do(monkeypatch):
    answers, scratches = [], []

    def plan(tags, prepared, scratch, answer):
        scratches.append(scratch)
        answers.append(answer)

    monkeypatch.setattr(kernel_work, "plan_chunk", plan)
    config = replace(PRIVATE, negatives=2, chunk_size=4)
    with closing(make_matrix(50, config, dim=DIM)) as matrix:
        kernel_work.KernelWork(matrix, config, make_stream(50, num_batches=3, batch=4))
    assert len(answers) == len({id(scratch) for scratch in scratches}) == 3, "a plan needs memory of its own"
    assert answers[0].loss_B.shape == (4,) and answers[0].feature_grad_BD.shape == (4, DIM)
    for place in range(2):
        assert len({answer[place].ctypes.data for answer in answers}) == 1
