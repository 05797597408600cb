"""What documents say of a machine with a card."""

import copy
import json

import pytest

from benchmarks import card_parts
from benchmarks.card_parts import CARD_PARTS, card_curves_part, card_memory_part, card_steps_part
from benchmarks.chunked_head import CUDA_LOGITS
from benchmarks.memory_model import StepShape, dense, sampled
from benchmarks.record import RESULTS, Record, read_record
from benchmarks.step_scaling_report import TRUNK_ALONE

SETTINGS = {
    "trunk": "resnet18",
    "image_size": 224,
    "batch_size": 256,
    "dim": 128,
    "tags_per_example": 20,
    "steps": 2,
}
TRUNK_BYTES = 3 << 30


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(card_parts, "CARD", tmp_path)
    return tmp_path


def write_steps(folder, results):
    record = Record("step_scaling", "Steps", SETTINGS)
    for num_tags, contender, step_ms, gpu_bytes in results:
        fits = step_ms is not None
        result = {"num_tags": num_tags, "contender": contender, "fits": fits}
        steps = {"step_ms": step_ms, "wait_ms": 0.5, "gpu_memory_bytes": gpu_bytes, "samples": {"step_ms": [step_ms]}}
        record.add(result | (steps if fits else {"reason": "CUDA out of memory"}))
    record.write(folder)


def test_of_several_hybrids_the_default_one_is_told_and_of_a_layer_that_it_does_not_fit(folder):
    shape = StepShape(
        dim=128, batch_size=256, positives=20, tags_per_example=20, product_bytes=2, chunk_logits=CUDA_LOGITS
    )
    results = []
    for num_tags, ms in ((1000, 10.0), (10**6, 20.0)):
        results += [
            (num_tags, TRUNK_ALONE, ms, TRUNK_BYTES),
            (num_tags, "hybrid, 15 workers", ms + 4, TRUNK_BYTES),
            (num_tags, "hybrid, 8 workers", ms + 5, TRUNK_BYTES),
            (num_tags, "dense BCE in chunks", ms + 7, TRUNK_BYTES + round(dense(num_tags, shape).device)),
            (num_tags, "torch sampled, 20 + 4,096 draws", ms, TRUNK_BYTES + round(sampled(num_tags, shape).device / 2)),
            (num_tags, "10% of the classes", ms if num_tags == 1000 else None, TRUNK_BYTES + (1 << 20)),
        ]
    write_steps(folder, results)
    text = card_steps_part({})
    assert "| trunk alone | 10 | 20 | 3.0 |" in text and "| hybrid, 8 workers | 15 | 25 | 3.0 |" in text
    assert "15 workers" not in text and "| 10% of the classes | 10 | does not fit |  |" in text
    assert "waited for workers 2 to 3% of a step" in text, "0.5 ms of 15 and of 25"
    sampled_wins = "torch sampled, 20 + 4,096 draws"
    assert (
        f"**loses** at 1,000 tags to {sampled_wins} and 10% of the classes; at 1,000,000 tags to {sampled_wins}."
        in text
    )
    apart = [line.split(" | ")[-1].strip(" |") for line in card_memory_part({}).splitlines()[2:]]
    assert apart[0] == apart[-2] == "+0%" and apart[1] == apart[-1] == "+100%"


def test_a_loss_is_called_one_and_the_wait_is_that_of_the_hybrid(folder):
    record = copy.deepcopy(read_record(RESULTS / "h100" / "gpu_only.json"))
    hybrid, *rivals = record["results"]
    for rival in rivals:
        rival["points"][-1]["P@5"] = 0.4 if rival["contender"].startswith("dense BCE") else 0.3
    hybrid["points"][-1]["P@5"], hybrid["phase_ms"] = 0.1, {"wait": 1.0, "forward": 2.0, "backward": 1.0}
    (folder / "gpu_only.json").write_text(json.dumps(record))
    text = card_curves_part({})
    assert "P@5 is 0.100 against 0.400 (dense BCE in chunks): the hybrid is **behind**" in text and "25% of the" in text
    assert "`.venv/bin/python -m benchmarks.gpu_only --tags 0 --seconds 20" in CARD_PARTS["card_contenders"]({})


@pytest.mark.parametrize("name", CARD_PARTS)
def test_without_results_a_part_says_which_it_needs(folder, name):
    with pytest.raises(KeyError, match=folder.name):
        CARD_PARTS[name]({})
