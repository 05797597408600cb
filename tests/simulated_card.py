"""CUDA graphs simulated on a CPU: what is recorded leaves nothing then, and each replay runs it on the same memory."""

import gc
from collections import defaultdict
from contextlib import contextmanager

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from hybrid.recording import Recorder

WRITES_UNANNOUNCED = {"aten::native_batch_norm": (3, 4)}
"""Operations whose schema does not say which arguments they write: running mean and variance."""


class SimulatedGraph:
    """In the place of `torch.cuda.CUDAGraph`."""

    def __init__(self):
        self.calls = []
        self.num_replays = 0

    def replay(self):
        self.num_replays += 1
        with torch.no_grad():
            for function, args, kwargs, results in self.calls:
                for kept, new in zip(results, _tensors(function(*args, **kwargs)), strict=True):
                    if kept.data_ptr() != new.data_ptr():
                        kept.copy_(new)


class _Recording(TorchDispatchMode):
    """Notes every operation, with aliases of its tensors, as a graph knows addresses; undoes what it wrote."""

    def __init__(self, graph):
        super().__init__()
        self.graph = graph
        self.before = {}
        self.made = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        for tensor in _written(function, args, kwargs):
            storage = tensor.untyped_storage().data_ptr()
            if storage not in self.made:
                self.before.setdefault(tensor.data_ptr(), (tensor.detach(), tensor.detach().clone()))
        result = function(*args, **kwargs)
        given = {tensor.untyped_storage().data_ptr() for tensor in _tensors((args, kwargs))}
        self.made |= {tensor.untyped_storage().data_ptr() for tensor in _tensors(result)} - given
        self.graph.calls.append((function, _aliases(args), _aliases(kwargs), _tensors(_aliases(result))))
        return result

    def undo(self):
        for tensor, content in self.before.values():
            tensor.copy_(content)


def _written(function, args, kwargs):
    schema = function._schema
    for index, argument in enumerate(schema.arguments):
        is_written = argument.alias_info is not None and argument.alias_info.is_write
        if is_written or index in WRITES_UNANNOUNCED.get(schema.name, ()):
            yield from _tensors(args[index] if index < len(args) else kwargs.get(argument.name))


def _tensors(tree):
    return [leaf for leaf in tree_flatten(tree)[0] if isinstance(leaf, torch.Tensor)]


def _aliases(tree):
    return tree_map(lambda leaf: leaf.detach() if isinstance(leaf, torch.Tensor) else leaf, tree)


@pytest.fixture
def simulated_card(monkeypatch):
    """The graphs that were recorded; the card has 1,000 bytes, of which a recording takes none.

    Garbage is collected before each recording, but not looked for in what was there before, all of torch: that would
    take longer than everything else.
    """
    graphs = []
    gc.freeze()

    @contextmanager
    def recorded(recorder, graph):
        gc.freeze()  # libraries that were loaded late
        graphs.append(graph)
        notes = _Recording(graph)
        with notes:
            yield
        with torch.no_grad():
            notes.undo()

    monkeypatch.setattr(torch.cuda, "CUDAGraph", SimulatedGraph)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device, priority: object())
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 7))
    monkeypatch.setattr(torch.cuda, "memory_snapshot", list)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 8000))
    monkeypatch.setattr("hybrid.recording._free_streams", defaultdict(list))
    monkeypatch.setattr(Recorder, "recorded", recorded)
    monkeypatch.setattr(Recorder, "drain", lambda recorder: None)
    monkeypatch.setattr("hybrid.cuda_graphs.check", lambda *claim: None)
    yield graphs
    gc.unfreeze()
