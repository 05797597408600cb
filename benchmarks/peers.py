"""Suite: the wide engine against every rival that runs on CPU cores, on ids of the same law, one core each.

How the work of each is counted, and where it does less or more than ours, is said in its module of `benchmarks.rivals`.
"""

from dataclasses import replace

from benchmarks import dense_peer, hogwild_peer
from benchmarks.engine_work import PRIVATE
from benchmarks.measurement import Measurement
from benchmarks.peer import PRODUCTS, REWRITING, Peer, compare
from benchmarks.progress import Progress
from benchmarks.rivals.forms import AUTOGRAD, BY_HAND
from benchmarks.suite_options import SuiteOptions
from launch.config import TrainConfig, TrunkConfig
from workers.config import HeadConfig

TITLE = (
    "The wide engine against its peers: 1M tags, D = 256, float32, ids of one law, one core each but where it is said"
)
SHARED_NEGATIVES = 1024
_PRIVATE_SGD = replace(PRIVATE, row_optimizer="sgd")
_SHARED = replace(PRIVATE, private_negatives=False, negatives=SHARED_NEGATIVES)
_FASTTEXT_EXPONENT = 0.5
_FASTTEXT_LINES = 2_500_000
"""The more, the less does the line with every label matter, which adds one to each count: with so many it is half of
what labels beyond the 180,000th have. Rows of either kind are out of cache when they are drawn."""
_DEFAULT, _POSITIVES = HeadConfig(), TrainConfig().positives
_HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""For a program whose matrix is malloc's: glibc then asks for them; torch and NumPy ask by themselves."""

PEERS = (
    Peer(
        name="gensim",
        module="gensim_word2vec",
        forms={"gensim": {"negatives": PRIVATE.negatives}},
        head=_PRIVATE_SGD,
        positives=1,
        bare=REWRITING,
    ),
    Peer(
        name="fasttext",
        module="fasttext_supervised",
        forms={"fastText": {"negatives": PRIVATE.negatives, "lines": _FASTTEXT_LINES}},
        head=_PRIVATE_SGD,
        positives=1,
        exponent=_FASTTEXT_EXPONENT,
        environment=_HUGE_PAGES,
        bare=REWRITING,
    ),
    Peer(
        name="torch_sparse_sgd",
        module="torch_sparse",
        forms={"torch with autograd": {"form": AUTOGRAD}, "torch by hand": {"form": BY_HAND}},
        head=_PRIVATE_SGD,
        has_own_environment=False,
        bare=REWRITING,
    ),
    Peer(name="fbgemm", module="fbgemm_tbe", forms={"fbgemm": {}}, head=PRIVATE, bare=REWRITING),
    Peer(
        name="pbg_comparator",
        module="pbg_comparator",
        forms={
            "PyTorch-BigGraph": {
                "chunks": 1,
                "chunk": PRIVATE.chunk_size,
                "negatives": SHARED_NEGATIVES,
                "has_batch_negatives": False,
            },
            "PyTorch-BigGraph by its defaults, steps of 20 chunks of 50 edges with 50 negatives and each other's": {
                "chunks": 20,
                "chunk": 50,
                "negatives": 50,
                "has_batch_negatives": True,
            },
        },
        head=_SHARED,
        positives=1,
        bare=PRODUCTS,
    ),
    Peer(
        name="shared_over_torch",
        module="torch_shared",
        forms={
            "torch GEMMs with autograd": {"form": AUTOGRAD, "negatives": SHARED_NEGATIVES},
            "torch GEMMs by hand": {"form": BY_HAND, "negatives": SHARED_NEGATIVES},
        },
        head=replace(_SHARED, row_optimizer="sgd"),
        has_own_environment=False,
        bare=PRODUCTS,
    ),
    Peer(
        name="default_over_torch",
        module="torch_shared",
        forms={
            name: {"form": form, "negatives": _DEFAULT.negatives, "batch": _DEFAULT.chunk_size, "positives": _POSITIVES}
            for name, form in (("torch GEMMs with autograd", AUTOGRAD), ("torch GEMMs by hand", BY_HAND))
        },
        head=replace(_DEFAULT, row_optimizer="sgd"),
        positives=_POSITIVES,
        has_own_environment=False,
        bare=PRODUCTS,
        dim=TrunkConfig().dim,
        what=(
            f"chunks of a run's default shape ({_DEFAULT.chunk_size} examples of D = {TrunkConfig().dim}, {_POSITIVES} "
            f"positives, {_DEFAULT.negatives:,} shared negatives): rate over torch's GEMMs with autograd, one thread"
        ),
    ),
)


def measure(options: SuiteOptions, progress: Progress) -> list[Measurement]:
    """One rival after the other; each has its turns with a worker of its own."""
    measured = [measurement for peer in PEERS for measurement in compare(peer, options, progress)]
    measured += hogwild_peer.measure(_PRIVATE_SGD, options, progress)
    return (
        measured
        + dense_peer.measure_step(_PRIVATE_SGD, options, progress)
        + dense_peer.measure_memory(PRIVATE, options, progress)
    )
