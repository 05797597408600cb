"""Trunks that take several tensors, by place or by name."""

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
        ({"words": torch.zeros(2), "lengths": [1, 2]}, "inputs have a list; expected a tensor"),
        ((torch.zeros(2), torch.tensor(1.0)), "inputs have a tensor of one number"),
        (torch.tensor(1.0), "inputs have a tensor of one number"),
        ({"words": torch.zeros(2), "mask": torch.zeros(3)}, "not equally many examples: words 2, mask 3"),
        ([torch.zeros(3, 8), torch.zeros(2, 8)], r"examples: 0 3, 1 2\. .* torch\.stack makes one of them"),
    ],
    ids=str,
)
def test_what_no_trunk_takes_is_refused_by_name(inputs, told):
    with pytest.raises(DataError, match=told):
        as_inputs(inputs)


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
