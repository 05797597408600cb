"""gensim's Word2Vec: skip-gram with negative sampling, by its compiled routine."""

# Shapes: D dim, N words.

from typing import Any

import gensim
import numpy as np
from gensim.models import Word2Vec
from gensim.models.word2vec import FAST_VERSION, train_batch_sg

from benchmarks.contestant import Prepared
from benchmarks.id_streams import NEGATIVE_EXPONENT, POSITIVE_EXPONENT, zipf_counts, zipf_ids
from benchmarks.rivals.same_start import LEARNING_RATE, ROW_SCALE

SENTENCE_WORDS, SENTENCES, BATCHES = 500, 8, 16


def prepare(settings: dict[str, Any]) -> Prepared:
    """A unit is an update of an output row: 1 + `negatives` for each pair of neighbouring words.

    Words follow Zipf's law, and gensim draws negatives with count^0.75, as the engine does. Its compiled routine is
    called directly, without the thread that feeds it. What differs: gensim draws by bisection of its cumulative table,
    and each pair also reads and moves an input row, which is not counted. The engine's features lie in one block.
    """
    num_words, dim, negatives = settings["num_tags"], settings["dim"], settings["negatives"]
    model = _model(num_words, dim, negatives)
    rng = np.random.default_rng(0)
    batches = [[_sentence(rng, num_words) for _ in range(SENTENCES)] for _ in range(BATCHES)]
    work_D, units, turn = np.zeros(dim, np.float32), float(units_of(SENTENCES, negatives)), 0

    def step() -> float:
        nonlocal turn
        train_batch_sg(model, batches[turn % BATCHES], LEARNING_RATE, work_D, False)
        turn += 1
        return units

    step()
    if FAST_VERSION < 0:
        raise RuntimeError("gensim runs without its compiled routines")
    return Prepared(step, {"gensim": gensim.__version__, "numpy": np.__version__, "FAST_VERSION": FAST_VERSION})


def units_of(sentences: int, negatives: int) -> int:
    """Output rows that a batch updates: with window 1, each word is paired with the one before and the one after."""
    return sentences * 2 * (SENTENCE_WORDS - 1) * (1 + negatives)


def _model(num_words: int, dim: int, negatives: int) -> Word2Vec:
    model = Word2Vec(
        vector_size=dim,
        sg=1,
        hs=0,
        negative=negatives,
        ns_exponent=NEGATIVE_EXPONENT / POSITIVE_EXPONENT,
        sample=0,
        window=1,
        min_count=1,
        workers=1,
    )
    counts_N = zipf_counts(num_words, POSITIVE_EXPONENT)
    model.build_vocab_from_freq({str(i): int(count) for i, count in enumerate(counts_N)}, corpus_count=1)
    rng = np.random.default_rng(0)
    for matrix in (model.wv.vectors, model.syn1neg):
        rng.standard_normal(out=matrix, dtype=np.float32)  # also touches every page, before anything is timed
        matrix *= ROW_SCALE / dim**0.5
    return model


def _sentence(rng: np.random.Generator, num_words: int) -> list[str]:
    return [str(i) for i in zipf_ids(rng, POSITIVE_EXPONENT, (SENTENCE_WORDS,), num_words)]
