"""What README shows is run as it stands there, on a smaller layer."""

import re
from pathlib import Path

import numpy as np
import torch
from torch import nn

from hybrid import TrainConfig, WideHead

README = Path(__file__).parent.parent / "README.md"
SMALLER = {"1_000_000": "1000", "dim=256": "dim=8", "workers=8": "workers=1"}


def drop_in_example():
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    for written, smaller in SMALLER.items():
        assert written in code
        code = code.replace(written, smaller)
    return code


def test_the_drop_in_example_learns_ranks_and_saves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.LayerNorm(8))
    prototypes = torch.randn(10, 3, 2, 2)
    batches = [
        (prototypes[kinds] + 0.1 * torch.randn(16, 3, 2, 2), [[kind, 100 + kind] for kind in kinds.tolist()])
        for kinds in torch.randint(10, (60, 16))
    ]
    counts = np.ones(1000, np.int64)
    names = {
        "trunk": trunk,
        "optimizer": torch.optim.AdamW(trunk.parameters(), lr=0.01),
        "loader": batches,
        "counts": counts,
    }
    exec(drop_in_example(), names)
    assert names["ids"].shape == names["scores"].shape == (16, 5)
    _, last_tags = batches[-1]
    hits = [set(tags) <= set(found) for tags, found in zip(last_tags, names["ids"].tolist(), strict=True)]
    assert np.mean(hits) >= 0.9
    with WideHead.load("head", workers=1) as again:
        assert again.num_tags == 1000


def test_the_page_of_own_loops_says_how_long_a_trainer_trains_by_default():
    page = (README.parent / "docs" / "own-loop.md").read_text()
    said = re.search(r"`TrainConfig\(\)` without\s+either trains for seven and a half minutes", page)
    assert said and TrainConfig().minutes == 7.5 and TrainConfig().epochs is None


def test_targets_and_files_that_it_names_exist():
    makefile = (README.parent / "Makefile").read_text()
    for document in (README, *sorted(README.parent.glob("docs/**/*.md"))):
        text = document.read_text()
        targets = set(re.findall(r"(?:^    |`)make ([a-z-]+)", text, flags=re.MULTILINE))
        assert all(f"\n{target}:" in makefile for target in targets), (document, targets)
        for link, _, anchor in re.findall(r"\]\(([^)#:]*)(#([^)]+))?\)", text):
            linked = document.parent / link if link else document
            assert linked.exists(), (document, link)
            assert not anchor or anchor in anchors(linked), (document, link, anchor)


def anchors(document):
    """What a link into a document may name: its headings, as GitHub writes them."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
