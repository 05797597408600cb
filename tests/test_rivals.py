"""Rivals do the work that they are counted for; one that is not installed is named with the command that brings it."""

import dataclasses
import importlib
import statistics
from typing import ClassVar
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from benchmarks import ceiling_contestant, dense_peer, hogwild_peer, peers
from benchmarks.contestant_process import ContestantLost, LocalContestant, ProcessContestant
from benchmarks.engine_work import PRIVATE, make_matrix, work_on
from benchmarks.gates import GATES, gates_of
from benchmarks.id_streams import BATCH, NEGATIVES, POSITIVES, make_stream
from benchmarks.measurement import NOT_MEASURED
from benchmarks.peer import HOW_TO_INSTALL, PEERS_PYTHON, compare, lost, same_head
from benchmarks.progress import Progress
from benchmarks.record import RESULTS
from benchmarks.result_pages import folders_apart, page_of, read_records
from benchmarks.rival_forms import other_forms
from benchmarks.rivals import torch_dense, torch_shared, torch_sparse
from benchmarks.rivals.fasttext_supervised import write_lines
from benchmarks.rivals.forms import ALL_LOGITS, AUTOGRAD, BY_HAND
from benchmarks.rivals.same_start import LEARNING_RATE
from benchmarks.rivals.start_tensors import random_features, random_rows
from benchmarks.rivals.torch_hogwild import BATCHES_PER_STEP
from benchmarks.suite_options import SuiteOptions
from benchmarks.turns import Sample
from workers.counters import NEGATIVES as NEGATIVES_STREAM
from workers.counters import stream_key
from workers.sampler import draw_ids
from workers.worker_stats import NEGATIVES as DRAWN

N, D = 300, 8
QUICK = SuiteOptions(rounds=1, round_s=0.01, max_tags=N)


@pytest.fixture
def start():
    torch.manual_seed(0)
    return random_rows(N, D) * 20, random_features(BATCH, D)


def test_each_gate_of_the_suite_is_measured_by_exactly_one_rival():
    names = [peer.name for peer in peers.PEERS if not peer.what] + [
        hogwild_peer.NAME,
        dense_peer.STEP,
        dense_peer.MEMORY,
    ]
    assert sorted(names) == sorted(gate.name for gate in gates_of("peers", quick=False))


def test_a_missing_environment_is_not_measured_and_names_the_command(monkeypatch, tmp_path):
    monkeypatch.setattr("benchmarks.peer.PEERS_PYTHON", tmp_path / "python")
    for peer in peers.PEERS:
        if peer.has_own_environment:
            (measured,) = compare(peer, QUICK, Progress())
            assert measured.verdict()[0] == NOT_MEASURED and HOW_TO_INSTALL in measured.reason


def test_a_rival_whose_library_is_missing_is_not_measured_and_named():
    peer = dataclasses.replace(peers.PEERS[0], module="no_such_rival", has_own_environment=False)
    (measured,) = compare(peer, QUICK, Progress())
    assert measured.verdict()[0] == NOT_MEASURED and "no_such_rival" in measured.reason and "\n" not in measured.reason
    assert not measured.is_defect


@pytest.mark.parametrize(
    ("module", "is_defect"), [("benchmarks.rivals.torch_dense", False), ("benchmarks.engine_contestant", True)]
)
def test_a_lost_contestant_is_told_by_its_error_and_a_defect_if_it_is_ours(module, is_defect):
    error = ContestantLost("contestant x: ImportError: y. Its last words:\nTraceback ...", module)
    measured = lost("gensim", error)
    assert measured.reason == "contestant x: ImportError: y." and measured.is_defect == is_defect
    assert measured.verdict()[0] == NOT_MEASURED


def test_a_broken_engine_is_no_rival_that_is_missing(monkeypatch):
    monkeypatch.setattr("benchmarks.peer.same_head", lambda head: {"no_such_setting": 1})
    peer = dataclasses.replace(peers.PEERS[0], has_own_environment=False)
    (measured,) = compare(peer, QUICK, Progress())
    assert measured.is_defect and "benchmarks.engine_contestant" in measured.reason


def test_torch_by_hand_does_what_autograd_does(start):
    rows_ND, features_BD = start
    ids_BT = torch.from_numpy(make_stream(N, num_batches=1).batches[0]).long()
    users, hands = torch_sparse.Autograd(rows_ND.clone()), torch_sparse.ByHand(rows_ND.clone())
    torch.testing.assert_close(hands(features_BD, ids_BT), users(features_BD, ids_BT))
    moves = users.rows.weight.detach() - rows_ND, hands.rows_ND - rows_ND
    assert moves[0].abs().max() > LEARNING_RATE / 10
    torch.testing.assert_close(moves[1], moves[0], rtol=1e-3, atol=2e-6)


def test_torch_with_shared_negatives_by_hand_does_what_autograd_does(start):
    rows_ND, features_BD = start
    ((pos_BP, neg_K), *_) = torch_shared.make_batches(N, BATCH, POSITIVES, 64)
    users, hands = torch_shared.Autograd(rows_ND.clone()), torch_shared.ByHand(rows_ND.clone())
    torch.testing.assert_close(hands(features_BD, pos_BP, neg_K), users(features_BD, pos_BP, neg_K))
    moves = users.rows.weight.detach() - rows_ND, hands.rows_ND - rows_ND
    torch.testing.assert_close(moves[1], moves[0], rtol=1e-3, atol=2e-6)


@pytest.mark.parametrize("optimizer", ["sgd", "adagrad"])
def test_chunks_of_the_dense_layer_learn_what_the_whole_learns(optimizer):
    features_BD, pos_BP = random_features(16, D), torch.randint(N, (16, POSITIVES))
    layers = [torch_dense.Autograd(N, D, size, optimizer) for size in (N, 70)]
    with torch.no_grad():
        torch.cat([*layers[1].rows], out=layers[0].rows[0].data)
    grads = [layer(features_BD, pos_BP) for layer in layers]
    torch.testing.assert_close(grads[1], grads[0])
    torch.testing.assert_close(torch.cat([*layers[1].rows]), layers[0].rows[0])


def test_chunks_that_are_stepped_at_once_give_the_feature_gradient_of_the_rows_before(monkeypatch):
    monkeypatch.setattr(torch_dense, "CHUNK_TAGS", 70)
    features_BD, pos_BP = random_features(16, D), torch.randint(N, (16, POSITIVES))
    users, hands = torch_dense.Autograd(N, D, N, "sgd"), torch_dense.SteppedChunks(N, D)
    hands.rows_ND.copy_(users.rows[0].detach())
    before_ND = hands.rows_ND.clone()
    torch.testing.assert_close(hands(features_BD, pos_BP), users(features_BD, pos_BP))
    move_ND = hands.rows_ND - before_ND  # the first step of row-wise Adagrad: lr, in the mean, where SGD goes to
    torch.testing.assert_close(move_ND.square().mean(1).sqrt(), torch.full((N,), LEARNING_RATE), rtol=1e-2, atol=0)
    assert torch.cosine_similarity(move_ND, users.rows[0].detach() - before_ND).min() > 0.99


def test_dense_contestant_counts_what_it_is_told():
    settings = {"num_tags": N, "dim": D, "batch": 4, "threads": 1, "form": ALL_LOGITS, "optimizer": "sgd", "units": 100}
    assert torch_dense.prepare(settings).step() == 100


@pytest.mark.parametrize("positives", [1, POSITIVES])
def test_the_engine_draws_and_writes_what_it_is_counted_for(positives):
    matrix = make_matrix(N, peers.PEERS[0].head)
    work = work_on(matrix, peers.PEERS[0].head, positives=positives)
    before = int(matrix.worker_stats_WS[0, DRAWN])
    units = work.step()
    assert units == BATCH * (positives + NEGATIVES)
    assert int(matrix.worker_stats_WS[0, DRAWN]) - before == BATCH * NEGATIVES
    assert len(work.chunks[0].pos_ids) == BATCH * positives
    matrix.close()


def test_bare_work_touches_the_rows_and_counts_the_pairs_of_our_own_step():
    sizes = {"num_tags": N, "dim": D, "exponent": 0.75}
    for peer in peers.PEERS:
        if peer.bare:
            settings = sizes | {"head": same_head(peer.head), "positives": peer.positives}
            bare = importlib.import_module(f"benchmarks.{peer.bare.module}").prepare(settings)
            matrix = make_matrix(N, peer.head, dim=D)
            assert bare.step() == work_on(matrix, peer.head, positives=peer.positives).step() > 0
            matrix.close()


@pytest.mark.parametrize("index", [0, 1])
def test_rows_are_rewritten_for_the_tags_that_a_worker_draws(monkeypatch, index):
    given = []
    monkeypatch.setattr(ceiling_contestant, "Ceiling", lambda rows_ND, batches: given.extend(batches) or Mock())
    matrix = make_matrix(N, PRIVATE, dim=D)
    settings = {"num_tags": N, "dim": D, "exponent": 0.75, "positives": POSITIVES} if not index else {"fd": matrix.fd}
    ceiling_contestant.prepare(settings | {"head": same_head(PRIVATE), "index": index})
    chunk = work_on(matrix, index=index).chunks[3]
    neg_ids = np.empty(BATCH * NEGATIVES, np.int32)
    draw_ids(matrix.sampler_groups_G4, matrix.sampler_members, stream_key(chunk.seed, 3, 0, NEGATIVES_STREAM), neg_ids)
    assert sorted(given[3].ravel()) == sorted(np.concatenate([chunk.pos_ids, neg_ids]))
    matrix.close()


def test_fasttext_lines_hold_every_label_once_and_then_as_many_to_a_line_as_our_examples_have(tmp_path):
    first = write_lines(tmp_path / "lines.txt", N, num_lines=50)
    text = (tmp_path / "lines.txt").read_text()
    vocabulary, lines = text[:first], text[first:].splitlines()
    assert vocabulary.split()[:-1] == [f"__label__{i}" for i in range(N)] and vocabulary.endswith(" w0\n")
    assert len(lines) == 50 and [peer.positives for peer in peers.PEERS if peer.name == "fasttext"] == [1]
    assert all(len(line.split()) == 1 + 1 for line in lines)
    labels = [int(line.rpartition("__label__")[2]) for line in lines]
    assert len(set(labels)) > 10 and statistics.median(labels) < N / 4, "by Zipf's law"


@pytest.mark.parametrize("apart", [RESULTS, *folders_apart(RESULTS)], ids=lambda path: path.name)
def test_no_table_calls_pairs_rows_that_are_written(apart):
    """The engine masks drawn true tags, so it writes fewer rows than it counts pairs."""
    assert not any(word in gate.what for gate in GATES.values() for word in ("row rate", "row-update", "all updates"))
    for name, record in read_records(apart).items():
        page = page_of(name, record, apart).replace("in the record: ", "\0")
        kept = [line.partition("\0")[0] for line in page.splitlines()]
        assert not any("row-update" in line or "row rate" in line for line in kept), name


def test_hogwild_by_hand_stands_under_the_gate_that_judges_hogwild(monkeypatch):
    started = []

    class Stub(LocalContestant):
        facts: ClassVar[dict] = {}

        def __init__(self, module, settings, **_):
            started.append(settings.get("form"))
            super().__init__(lambda: {AUTOGRAD: 1.0, BY_HAND: 2.0, None: 4.0}[settings.get("form")])

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def end(self):
            return Sample(seconds=1.0, units=self._step(), cpu_share=1.0)

    monkeypatch.setattr(hogwild_peer, "ProcessContestant", Stub)
    monkeypatch.setattr("benchmarks.turns.LoadMeter", lambda: Mock(foreign_cores=lambda: 0.0))
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1})
    measured = hogwild_peer.measure(PRIVATE, QUICK, Progress())
    assert started == [None, None, AUTOGRAD, BY_HAND]
    judged, by_hand, *_ = measured
    assert judged.gate is GATES["torch_hogwild"] and judged.values == [8.0]
    assert by_hand.gate is None and by_hand.values == [4.0] and by_hand.what == "the same against torch Hogwild by hand"
    shown = other_forms(judged.name, [result.as_json() for result in measured])
    assert [result["name"] for result in shown] == [by_hand.name]


@pytest.mark.slow
@pytest.mark.parametrize("form", [AUTOGRAD, BY_HAND])
def test_hogwild_counts_the_work_of_all_its_processes_and_leaves_none_behind(form):
    settings = {"num_tags": N, "dim": D, "processes": 2, "form": form}
    with ProcessContestant("benchmarks.rivals.torch_hogwild", settings, busy_threads=2) as contestant:
        contestant.begin(0.01)
        units = contestant.end().units
        assert units % (2 * BATCHES_PER_STEP[form] * BATCH * (POSITIVES + NEGATIVES)) == 0 and units > 0
    assert contestant.process.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("peer", "form"),
    [(p, form) for p in peers.PEERS if p.has_own_environment for form in p.forms],
    ids=lambda part: getattr(part, "name", part),
)
def test_a_rival_of_the_environment_of_its_own_works(peer, form):
    if not PEERS_PYTHON.exists():
        pytest.skip(f"no rivals are installed: {HOW_TO_INSTALL}")
    settings = peer.forms[form]
    size = {"num_tags": 20_000, "dim": 64}  # fastText fails with few labels
    with ProcessContestant(f"benchmarks.rivals.{peer.module}", {**size, **settings}, python=PEERS_PYTHON) as contestant:
        contestant.begin(0.05)
        assert contestant.facts and contestant.end().units > 0
