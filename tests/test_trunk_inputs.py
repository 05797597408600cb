"""Trunks that take several tensors, by place or by name."""

import itertools
from collections import UserDict, namedtuple

import numpy as np
import pytest
import torch
from torch import nn

from hybrid import Pipeline, TrainConfig, Trainer, WideHead
from hybrid.micro_batch import cut_batch
from hybrid.trunk_inputs import as_inputs, num_examples, tensors_of
from workers.errors import DataError

N, D, WORDS = 40, 8, 5
TAGS = [[1], [2, 3], [4], [5, 6], [7]]
Pair = namedtuple("Pair", "words mask")


@pytest.fixture(scope="module")
def still_head():
    with WideHead(num_tags=N, dim=D, workers=1, negatives=6, chunk_size=3, init_scale=1.0, row_lr=0.0) as head:
        yield head


class MaskedMean(nn.Module):
    """Like a text encoder: ids of words, and which of them are there."""

    def __init__(self):
        super().__init__()
        self.embedding, self.norm = nn.Embedding(30, D), nn.LayerNorm(D)

    def forward(self, words, mask):
        return self.norm((self.embedding(words) * mask.unsqueeze(-1)).sum(1))


class OfOne(nn.Module):
    """The same trunk on one tensor."""

    def __init__(self, trunk):
        super().__init__()
        self.trunk = trunk

    def forward(self, both):
        return self.trunk(both[:, 0], both[:, 1].float())


def make_words():
    torch.manual_seed(1)
    shape = len(TAGS), WORDS
    return torch.randint(30, shape), (torch.rand(shape) > 0.3).float()


def gradient(trunk, head, inputs):
    trunk.zero_grad()
    head.step = 3
    loss = Pipeline(trunk, head).backward(inputs, TAGS)
    return loss, [parameter.grad.clone() for parameter in trunk.parameters()]


FORMS = {
    "tuple": lambda words, mask: (words, mask),
    "list": lambda words, mask: [words, mask],
    "named tuple": lambda words, mask: Pair(words, mask),
    "dict": lambda words, mask: {"mask": mask, "words": words},
    "a tokenizer's": lambda words, mask: UserDict(words=words, mask=mask),
    "arrays": lambda words, mask: {"words": words.numpy(), "mask": mask.numpy()},
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_several_inputs_teach_what_one_that_holds_them_teaches(still_head, form):
    torch.manual_seed(0)
    trunk, (words, mask) = MaskedMean(), make_words()
    loss, grads = gradient(trunk, still_head, form(words, mask))
    loss_of_one, grads_of_one = gradient(OfOne(trunk), still_head, torch.stack([words, mask.long()], 1))
    assert loss == loss_of_one
    assert all(torch.equal(one, other) for one, other in zip(grads, grads_of_one, strict=True))
    assert max(float(one.abs().max()) for one in grads) > 1e-3


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_trainer_takes_them_and_prepares_them_together(still_head, form):
    seen = []

    def prepare(inputs):
        seen.append([type(one) for one in tensors_of(inputs)])
        return inputs

    config = TrainConfig(batch_size=5, epochs=4)
    trainer = Trainer(MaskedMean(), still_head, config, num_items=5, device="cpu", prepare=prepare)
    trainer.fit([(form(*make_words()), TAGS)])
    assert trainer.progress.num_examples == 20
    assert seen == [[torch.Tensor, torch.Tensor]] * 4


def test_parts_have_the_same_rows_of_all():
    words, mask = make_words()
    parts = cut_batch({"words": words, "mask": mask}, TAGS, N, 2)
    assert [len(part) for part in parts] == [2, 3]
    for name, whole in (("words", words), ("mask", mask)):
        assert torch.equal(torch.cat([part.inputs[name] for part in parts]), whole)


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ({}, "inputs are a dict of none; expected a tensor"),
        ([], "inputs are a list of none"),
        ("ab", "inputs are a str; expected a tensor"),
        (None, "inputs are a NoneType"),
        ({"words": torch.zeros(2), "lengths": [1, 2]}, r"inputs\['lengths'\] is a list; expected a tensor"),
        ((torch.zeros(2), torch.tensor(1.0)), r"inputs\[1\] is a tensor of one number"),
        (torch.tensor(1.0), "inputs is a tensor of one number"),
        ({0: torch.zeros(2)}, "inputs have the name 0; expected names of the trunk's arguments"),
        (np.array(["a", "b"]), "inputs is a array of <U1"),
        (torch.eye(2).to_sparse(), "inputs is a tensor of layout torch.sparse_coo"),
        (torch.nested.nested_tensor([torch.zeros(2)], layout=torch.jagged), "or nested"),
        ({"words": torch.zeros(2), "mask": torch.zeros(3)}, r"examples: 2 in inputs\['words'\], 3 in inputs\['mask'\]"),
        ([torch.zeros(3, 8), torch.zeros(2, 8)], r"3 in inputs\[0\], 2 in inputs\[1\]\. .* torch\.stack makes one"),
    ],
    ids=str,
)
def test_what_no_trunk_takes_is_refused_by_name(inputs, told):
    with pytest.raises(DataError, match=told):
        as_inputs(inputs)


def test_an_array_of_any_strides_becomes_a_tensor():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)[:, ::-1]
    assert as_inputs([array])[0].tolist() == array.tolist()


def test_a_trainers_prepare_makes_inputs_of_whatever_a_loader_gives(still_head):
    """It gets tensors where there were arrays, too, and all containers as they were."""
    seen = []

    def prepare(batch):
        seen.append(batch)
        return batch.words["ids"], batch.mask[0]

    words, mask = make_words()
    trainer = Trainer(MaskedMean(), still_head, TrainConfig(epochs=1), num_items=5, device="cpu", prepare=prepare)
    trainer.step(Pair({"ids": words, "text": ["a b"] * 5, "none": None}, [mask.numpy()]), TAGS)
    assert torch.equal(seen[0].mask[0], mask) and seen[0].words["text"] == ["a b"] * 5


@pytest.mark.parametrize("microbatches", [1, 2, 3])
def test_what_made_the_inputs_learns_whether_they_are_cut_or_not(still_head, microbatches):
    torch.manual_seed(0)
    embedding, trunk = nn.Embedding(30, D), nn.Linear(D, D)
    words, extra = make_words()[0][:, 0], torch.randn(5, D, requires_grad=True)
    learning = [embedding.weight, *trunk.parameters(), extra]
    still_head.step = 3
    Pipeline(trunk, still_head).backward({"input": embedding(words) * 2 + extra}, TAGS, microbatches)
    got = [one.grad for one in learning]
    still_head.step = 3
    for one in learning:
        one.grad = None
    bounds = {1: [0, 5], 2: [0, 2, 5], 3: [0, 2, 5]}[microbatches]
    made = trunk(embedding(words) * 2 + extra)
    first_chunk, total = 0, []
    for start, stop in itertools.pairwise(bounds):
        part = made[start:stop]
        ticket = still_head.submit(part.detach().numpy(), TAGS[start:stop], update=True, first_chunk=first_chunk)
        total.append(torch.from_numpy(still_head.collect(ticket).feature_grad_BD.copy()) / 5)
        first_chunk += -(-len(part) // 3)
    made.backward(torch.cat(total))
    for one, other in zip(got, learning, strict=True):
        torch.testing.assert_close(one, other.grad)
        assert other.grad.abs().max() > 1e-4


def test_a_trunk_that_begins_in_place_learns_as_one_that_does_not(still_head):
    torch.manual_seed(0)
    embedding, linear = nn.Embedding(30, D), nn.Linear(D, D)
    words, got = make_words()[0][:, 0], []
    for in_place in (False, True):
        embedding.zero_grad()
        still_head.step = 3
        Pipeline(nn.Sequential(nn.ReLU(in_place), linear), still_head).backward(embedding(words), TAGS)
        got.append(embedding.weight.grad.clone())
    assert torch.equal(*got) and got[0].abs().max() > 1e-4


def test_an_array_becomes_a_tensor_on_the_same_memory():
    array = np.zeros((3, 2), np.float32)
    inputs = as_inputs(array)
    array[0] = 1
    assert num_examples(inputs) == 3 and float(inputs.sum()) == 2


def test_a_trunk_that_returns_no_tensor_is_told_what_is_expected(still_head):
    class Output(nn.Module):
        def forward(self, x):
            return {"features": x}

    with pytest.raises(DataError, match=r"features are a builtins\.dict; expected a float tensor"):
        Pipeline(Output(), still_head).backward(torch.randn(5, D), TAGS)
    assert still_head.router.num_in_flight == 0
