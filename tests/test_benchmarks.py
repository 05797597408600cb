"""The benchmarks' rivals against plain torch on a tiny problem, their records, their tables."""

import itertools
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import gpu_only_report, head_report, row_lr_search, worker_quality
from benchmarks.curve_settings import CurveSettings
from benchmarks.dense_head import DenseHead, initial_bias_N
from benchmarks.environment import clean
from benchmarks.markdown import markdown_table
from benchmarks.paused_budget import PausedBudget
from benchmarks.process_memory import PeakMemory, process_tree, pss_bytes
from benchmarks.record import Record, read_record
from benchmarks.rival_head import Setting
from benchmarks.rival_pipeline import RivalPipeline
from benchmarks.sampled_head import SampledHead
from benchmarks.synthetic_tags import SyntheticTags
from benchmarks.true_tags import TrueTags
from hybrid.head import WideHead
from hybrid.phases import PhaseTimer
from hybrid.pipeline import MicroBatch
from hybrid.tag_batch import ItemNumbers
from workers.chunk import Chunk
from workers.config import HeadConfig
from workers.engine import WideEngine
from workers.errors import ConfigError, DataError
from workers.matrix import TagMatrix

D, N, NUM_ITEMS, P = 8, 50, 20, 3
ITEMS = np.array([3, 17, 3, 0, 9, 12, 5], np.int64)  # one of them twice, item 0 without tags


@pytest.fixture
def truth():
    rng = np.random.default_rng(3)
    lists = [np.sort(rng.choice(N, 0 if i == 0 else rng.integers(1, 12), replace=False)) for i in range(NUM_ITEMS)]
    return np.cumsum([0] + [len(tags) for tags in lists]), np.concatenate(lists).astype(np.int32)


@pytest.fixture
def setting(truth):
    return Setting(
        config=HeadConfig(negatives=30, negative_weight=5.0, chunk_size=4, row_lr=0.1, init_scale=1.0),
        counts_N=np.bincount(truth[1], minlength=N),
        marginal_N=np.full(N, 1 / N),
        num_train_items=NUM_ITEMS,
        dim=D,
        positives=P,
        seed=7,
        device=torch.device("cpu"),
        precision=torch.float32,
        true_tags=TrueTags(*truth, torch.device("cpu")),
    )


def features_of(num_examples):
    return torch.randn(num_examples, D, generator=torch.Generator().manual_seed(1))


def dense_targets(truth):
    offsets, tags = truth
    targets = torch.zeros(len(ITEMS), N)
    for b, item in enumerate(ITEMS):
        targets[b, tags[offsets[item] : offsets[item + 1]].astype(int)] = 1
    return targets


@pytest.mark.parametrize("tags_per_chunk", [1, 7, 50, 1000])
def test_chunked_bce_has_the_gradients_of_plain_bce(setting, truth, tags_per_chunk):
    head = DenseHead(setting, chunk_logits=tags_per_chunk * len(ITEMS))
    features = features_of(len(ITEMS)).requires_grad_()
    rows, bias = head.rows_ND.clone().requires_grad_(), head.bias_N.clone().requires_grad_()
    loss = F.binary_cross_entropy_with_logits(features @ rows.T + bias, dense_targets(truth), reduction="sum")
    loss.backward()
    chunks = list(head.chunk_grads(features.detach(), ITEMS, with_loss=True))
    assert [chunk.tags.start for chunk in chunks] == list(range(0, N, tags_per_chunk))
    torch.testing.assert_close(sum(chunk.loss_sum for chunk in chunks), loss.detach())
    torch.testing.assert_close(torch.cat([chunk.row_grad_nD for chunk in chunks]), rows.grad, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(torch.cat([chunk.bias_grad_n for chunk in chunks]), bias.grad, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(sum(chunk.feature_grad_BD for chunk in chunks), features.grad, atol=1e-5, rtol=1e-5)


def test_a_dense_step_is_row_wise_adagrad_on_the_rows_as_they_were(setting):
    head = DenseHead(setting, chunk_logits=7 * len(ITEMS))
    rows, features = head.rows_ND.clone(), features_of(len(ITEMS))
    chunks = list(head.chunk_grads(features, ITEMS, with_loss=True))
    grad_ND = torch.cat([chunk.row_grad_nD for chunk in chunks])
    loss_sum, feature_grad = head.learn(features, ITEMS)
    torch.testing.assert_close(loss_sum, sum(chunk.loss_sum for chunk in chunks))
    torch.testing.assert_close(feature_grad, sum(chunk.feature_grad_BD for chunk in chunks))
    expected = rows - 0.1 * grad_ND / (grad_ND.square().mean(1, keepdim=True) + 1e-10).sqrt()
    torch.testing.assert_close(head.rows_ND, expected)


def test_the_dense_rival_never_holds_all_logits(setting):
    class Largest(TorchDispatchMode):
        numel = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and result.untyped_storage().nbytes() != head.rows_ND.nbytes:
                self.numel = max(self.numel, result.untyped_storage().nbytes() // 4)
            return result

    head = DenseHead(setting, chunk_logits=5 * len(ITEMS))
    with Largest() as largest:
        head.learn(features_of(len(ITEMS)), ITEMS)
    assert 0 < largest.numel < N * len(ITEMS)
    head = DenseHead(setting, chunk_logits=N * len(ITEMS))
    with Largest() as largest:
        head.learn(features_of(len(ITEMS)), ITEMS)
    assert largest.numel >= N * len(ITEMS), "this measure sees all logits where they are"


def test_a_frequency_of_none_or_all_has_finite_log_odds():
    assert np.isfinite(initial_bias_N(np.array([0, 1, 20]), 20)).all()
    assert initial_bias_N(np.array([5]), 20)[0] == pytest.approx(np.log(0.25 / 0.75))


def naive_sampling_loss(head, truth, rows, bias, features):
    """The equation, example by example, draw by draw."""
    offsets, tags = truth
    pos_ids, pos_offsets, neg_ids = head.draw(ITEMS)
    total = torch.zeros((), dtype=torch.float64)
    for b, item in enumerate(ITEMS):
        true = set(tags[offsets[item] : offsets[item + 1]].tolist())
        positives = pos_ids[pos_offsets[b] : pos_offsets[b + 1]]
        assert set(positives.tolist()) <= true and len(positives) == min(P, len(true))
        for t in positives:
            total = total - F.logsigmoid(rows[t] @ features[b] + bias[t]) / len(positives)
        for k in neg_ids[b // head.config.chunk_size]:
            if int(k) not in true:
                score = rows[k] @ features[b] + bias[k]
                total = total - F.logsigmoid(-score) * head.config.negative_weight / head.config.negatives
    return total


def test_sampled_rival_has_loss_and_gradients_of_the_equation(setting, truth):
    head = SampledHead(setting)
    rows = head.rows.weight.detach().double().requires_grad_()
    bias = head.bias.weight.detach()[:, 0].double().requires_grad_()
    features = features_of(len(ITEMS)).double().requires_grad_()
    naive = naive_sampling_loss(head, truth, rows, bias, features)
    naive.backward()
    single = features.detach().float().requires_grad_()
    loss = head.loss_sum(single, ITEMS)
    loss.backward()
    assert head.rows.weight.grad.is_sparse and head.bias.weight.grad.is_sparse
    assert loss.item() == pytest.approx(naive.item(), rel=1e-5)
    for ours, theirs in [
        (single.grad, features.grad),
        (head.rows.weight.grad.to_dense(), rows.grad),
        (head.bias.weight.grad.to_dense()[:, 0], bias.grad),
    ]:
        torch.testing.assert_close(ours, theirs.float(), atol=1e-5, rtol=1e-4)


def test_sampled_rival_computes_what_a_worker_computes(setting, truth):
    head = SampledHead(setting)
    offsets, tags = truth
    counts = np.asarray(setting.counts_N)
    matrix = TagMatrix.create(
        N, D, config=setting.config, counts=counts, marginal=setting.marginal_N, item_offsets=offsets, item_tags=tags
    )
    matrix.rows_ND[:] = head.rows.weight.detach().numpy()
    np.testing.assert_allclose(matrix.bias_N, head.bias.weight.detach()[:, 0].numpy(), rtol=1e-6)
    pos_ids, pos_offsets, _ = head.draw(ITEMS)
    features, engine, losses, grads = features_of(len(ITEMS)), WideEngine(matrix, setting.config), [], []
    for number, start in enumerate(range(0, len(ITEMS), setting.config.chunk_size)):
        stop = min(start + setting.config.chunk_size, len(ITEMS))
        first, last = pos_offsets[start], pos_offsets[stop]
        chunk = Chunk(
            step=0,
            chunk=number,
            seed=setting.seed,
            features_BD=features[start:stop].numpy().copy(),
            pos_ids=pos_ids[first:last].astype(np.int32),
            pos_offsets=(pos_offsets[start : stop + 1] - first).astype(np.int32),
            pos_weights=None,
            items_B=ITEMS[start:stop],
            true_ids=None,
            true_offsets=None,
            num_negatives=setting.config.negatives,
            row_lr=0.0,
            update=False,
        )
        reply = engine.apply(chunk)
        losses.append(reply.loss_B.sum())
        grads.append(reply.feature_grad_BD.copy())
    matrix.close()
    loss_sum, feature_grad = head.learn(features, ITEMS)
    assert loss_sum.item() == pytest.approx(sum(losses), rel=1e-5)
    np.testing.assert_allclose(feature_grad.numpy(), np.concatenate(grads), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rival", [DenseHead, SampledHead])
def test_rivals_learn_and_rank_what_is_true(setting, truth, rival):
    head, features = rival(setting), features_of(len(ITEMS)) * 3
    first = head.learn(features, ITEMS)[0].item()
    for _ in range(60):
        last = head.learn(features, ITEMS)[0].item()
    assert last < 0.7 * first
    rows, bias = head.for_ranking()
    assert np.isneginf(bias[np.asarray(setting.counts_N) == 0]).all()
    best = (features.numpy() @ rows.T + bias).argmax(1)
    targets = dense_targets(truth).numpy()
    has_tags = targets.sum(1) > 0
    assert targets[np.arange(len(ITEMS)), best][has_tags].all()


def test_micro_batches_of_the_rival_pipeline_add_up_to_the_gradient_of_the_mean_loss(setting):
    images, rivals = features_of(len(ITEMS)), []
    for cuts in ([0, 7], [0, 4, 7]):
        torch.manual_seed(0)
        trunk, head = nn.Linear(D, D), DenseHead(setting)
        head.row_lr = 0.0
        pipeline = RivalPipeline(trunk, head, precision=torch.float32, timer=PhaseTimer())
        parts = [MicroBatch(images[i:j], ItemNumbers(ITEMS[i:j])) for i, j in itertools.pairwise(cuts)]
        pipeline.accumulate(parts)
        rivals.append(trunk.weight.grad)
    torch.testing.assert_close(rivals[0], rivals[1])


def test_true_tags_of_repeated_and_untagged_items(truth):
    offsets, tags = truth
    example, tag = TrueTags(offsets, tags, torch.device("cpu")).of(ITEMS)
    expected = [(b, t) for b, i in enumerate(ITEMS) for t in tags[offsets[i] : offsets[i + 1]].tolist()]
    assert list(zip(example.tolist(), tag.tolist(), strict=True)) == expected


def test_synthetic_batches_fit_a_head():
    tags = SyntheticTags(300, seed=0)
    features, batch = tags.batch(8, D, positives=4)
    assert tags.counts_N.min() >= 1 and (np.diff(tags.counts_N) <= 0).all()
    with WideHead(300, D, workers=1, negatives=16, tag_counts=tags.counts_N) as head:
        result = head.collect(head.submit(features, batch, update=True))
    assert np.isfinite(result.loss_B).all()


def passes(budget):
    """Seconds that the budget's clock counts while a fraction of a millisecond goes by."""
    before_s, until_s = budget.used_s, time.perf_counter() + 1e-4
    while time.perf_counter() < until_s:
        pass
    return budget.used_s - before_s


def test_a_paused_clock_stands_still():
    budget = PausedBudget(epochs=None, minutes=1.0, num_items=10)
    budget.start()
    assert passes(budget) == 0
    with budget.running():
        assert passes(budget) > 0
        with budget.paused():
            assert passes(budget) == 0
        assert passes(budget) > 0
    assert passes(budget) == 0
    assert 0 < budget.used_s < 60 and budget.fraction(10**6) == pytest.approx(budget.used_s / 60)


def test_pss_counts_children_and_peaks():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert {os.getpid(), child.pid} <= set(process_tree(os.getpid()))
        assert pss_bytes()["Pss"] > pss_bytes(child.pid)["Pss"] >= 0
    finally:
        child.communicate(b"\n", timeout=30)
    before = pss_bytes()["Pss_Anon"]
    with PeakMemory() as memory:
        block = np.ones(64 << 20, np.uint8)
    assert memory.peak["Pss"] >= memory.peak["Pss_Anon"] > before + block.nbytes // 2
    assert child.pid not in process_tree(os.getpid())


def test_forced_blas_variables_are_removed():
    assert clean({"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_L2_SIZE": "1", "PATH": "x"}) == {"PATH": "x"}


def test_settings_of_a_curve_are_checked_and_hybrid_alone_has_micro_batches():
    assert CurveSettings(kind="hybrid", workers=2, seconds=60).run_config.train.microbatches == 2
    assert CurveSettings(kind="dense", epochs=1.0).run_config.train.microbatches == 1
    for wrong in [{"kind": "dense", "workers": 1, "seconds": 1}, {"kind": "sampled"}, {"kind": "dance", "seconds": 1}]:
        with pytest.raises(ConfigError):
            CurveSettings(**wrong)


def curve_result(kind, workers, num_tags, p5, rate):
    settings = {"kind": kind, "workers": workers, "seed": 0, "row_lr": 0.01}
    final = {"P@1": p5, "P@5": p5, "PSP@5": p5, "mAP": p5 / 2, "popularity": {"P@5": 0.2, "mAP": 0.1}}
    return {
        "contender": f"{kind} {workers}",
        "settings": settings,
        "num_tags": num_tags,
        "device": "cpu",
        "precision": "torch.float32",
        "trunk_threads": 2,
        "examples_per_s": rate,
        "step_ms": {"median": 1e5 / rate, "p90": 2e5 / rate},
        "memory_bytes": {"Pss": 1 << 30},
        "gpu_memory_bytes": None,
        "points": [{"seconds": s, "P@5": p5 * s / 10, "mAP": p5 * s / 20} for s in (5, 10)],
        "final": final,
    }


@pytest.fixture
def recorded(tmp_path):
    record = Record("gpu_only", "A title", {"seconds": 10})
    record.add(curve_result("hybrid", 1, 1000, 0.5, 100.0))
    record.add(curve_result("hybrid", 2, 1000, 0.6, 90.0))
    record.add(curve_result("dense", 0, 1000, 0.7, 80.0))
    record.add(curve_result("sampled", 0, 1000, 0.3, 70.0))
    record.add(curve_result("hybrid", 1, 10, 0.4, 50.0))
    return record.write(tmp_path / "results")


def test_a_record_says_where_it_was_made(recorded):
    content = json.loads(recorded.read_text())
    assert content["settings"] == {"seconds": 10} and len(content["results"]) == 5
    assert content["machine"]["cores"] >= 1 and len(content["machine"]["load_average"]) == 3
    assert content["software"]["versions"]["torch"] == torch.__version__
    assert any("architecture" in pool for pool in content["software"]["blas"])
    assert content["command"] and content["started"] <= content["written"]
    assert not list(recorded.parent.glob(".*"))


@pytest.mark.parametrize("text", [None, "", "[]", '{"format": 99}'])
def test_what_is_no_record_is_refused(tmp_path, text):
    path = tmp_path / "x.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=r"x\.json"):
        read_record(path)


def test_records_hold_no_nan(tmp_path):
    record = Record("nan", "t", {})
    record.add({"loss": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
        record.write(tmp_path)


def test_the_table_names_every_loss_of_the_hybrid(recorded):
    losses = gpu_only_report.losses(read_record(recorded))
    assert [line.split(":")[0] for line in losses] == [
        "1,000 tags, P@5",
        "1,000 tags, mAP",
        "1,000 tags, time to quality, s",
    ]
    assert "0.700 (dense 0) against 0.600 (hybrid 2)" in losses[0]


def test_report_of_the_suite_is_written_from_the_json(recorded):
    table, plot = gpu_only_report.write_report(recorded)
    text = table.read_text()
    assert "| dense 0 | 80.0 | 1,250 | 2,500 | 1,024 | 0.700 | 0.350 | 10.0 |" in text
    assert text.index("## 10 tags") < text.index("## 1,000 tags") < text.index("Where the hybrid loses")
    assert "<svg" in plot.read_text()


def test_growth_compares_sizes_within_a_round():
    sizes = [
        {"num_tags": 100, "round_step_ms": [2.0, 6.0, 3.0]},
        {"num_tags": 10, "round_step_ms": [1.0, 2.0, 3.0]},
    ]
    assert head_report.growth({"results": sizes}, "round_step_ms") == [[1.0, 1.0, 1.0], [2.0, 3.0, 1.0]]


def test_other_tables_show_their_numbers(recorded):
    record = read_record(recorded)
    hybrids = [r for r in record["results"] if r["num_tags"] == 1000 and r["settings"]["workers"]]
    text = worker_quality.report_text(record | {"results": hybrids})
    assert "| 2 | 0.6000 (0.6000 to 0.6000) |" in text and "mean P@5: 10.00 points" in text
    assert "| 1,000 tags, dense 0 | 0.700 / 0.350 |" in row_lr_search.report_text(record)
    assert markdown_table(["a", "b"], [["x", "1"]]) == "| a | b |\n| --- | ---: |\n| x | 1 |"
