"""The tag matrix: rows, their state, the sampler's table, the data set's true tags, in memory that all workers share.

Legend: N tags, D dim, S stored words of a row, G groups of the sampler, I items of the data set, W workers.

Concurrency: rows and states are written by all workers without locks (Hogwild). What survives every race: each 4-byte
value is one that some worker wrote, and workers write finite values only; so a row may mix two updates, or lose one,
but never holds NaN. Everything else is written once, before a worker starts, but for `is_filled`, which the owner sets,
and `worker_stats_WS` and `applied_W`, where each worker writes its own row alone.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from workers import objectives
from workers.config import MAX_WORKERS, HeadConfig
from workers.errors import DataError, MatrixMismatch
from workers.matrix_data import checked_counts_N, checked_marginal_N, checked_truth
from workers.memory import ArraySpec, SharedArrays, check_fits
from workers.row_fill import RowFill
from workers.rows import dim_of, row_dtype_of, stored_form, unpack
from workers.sampler import MOST_TAGS, build_groups, sampling_probabilities
from workers.tags import BIAS, BIAS_ACC, LOG_Q, ROW_ACC
from workers.worker_stats import NUM_STATS

_BLOCK_TAGS = 1 << 20
_FILL_BYTES_PER_S = 100e6  # less than a slow core draws


class Sizes(NamedTuple):
    """What the shapes of all arrays follow from."""

    num_tags: int
    dim: int
    row_dtype: str
    num_groups: int
    """Of the sampler."""
    num_members: int
    num_items: int
    num_true: int


def matrix_spec(sizes: Sizes) -> dict[str, ArraySpec]:
    """The whole schema of the shared memory."""
    num_tags, num_items, num_true = sizes.num_tags, sizes.num_items, sizes.num_true
    return {
        "rows_NS": ArraySpec(*stored_form(num_tags, sizes.dim, sizes.row_dtype)),  # v_t as `workers.rows` stores it
        "tag_state_N4": ArraySpec("<f4", (num_tags, 4)),  # b_t, the two accumulators, log q(t)
        "counts_N": ArraySpec("<i8", (num_tags,)),  # training count; 1 each where it is not known
        "sampler_groups_G4": ArraySpec("<u4", (sizes.num_groups, 4)),  # see `workers.sampler`
        "sampler_members": ArraySpec("<i4", (sizes.num_members,)),
        "item_offsets": ArraySpec("<i8", (num_items + 1,)),  # CSR of the true tags of each item
        "item_tags": ArraySpec("<i4", (num_true,)),  # ascending within an item
        "worker_stats_WS": ArraySpec("<i8", (MAX_WORKERS, NUM_STATS)),  # columns: `workers.worker_stats`
        "applied_W": ArraySpec("<i8", (MAX_WORKERS,)),  # chunks that wrote; close together, since all are added up
        "is_filled": ArraySpec("<i8", (1,)),  # 1 when rows and their state are ready to be used
    }


def _blocks(num_tags: int) -> Iterator[slice]:
    """Of tags, so that what is computed of them takes little memory at a time."""
    return (slice(start, start + _BLOCK_TAGS) for start in range(0, num_tags, _BLOCK_TAGS))


class _SharedArray:
    """An array of `matrix_spec` as an attribute: looked up once, refused when the matrix is closed."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, matrix: "TagMatrix", owner: type) -> np.ndarray:
        array = matrix.__dict__[self._name] = matrix.arrays[self._name]
        return array


class TagMatrix:
    """The wide head's parameters. Make one with `create` (the owner) or `attach` (a worker)."""

    rows_NS, tag_state_N4, counts_N = _SharedArray(), _SharedArray(), _SharedArray()
    sampler_groups_G4, sampler_members = _SharedArray(), _SharedArray()
    item_offsets, item_tags = _SharedArray(), _SharedArray()
    worker_stats_WS, applied_W = _SharedArray(), _SharedArray()

    def __init__(self, arrays: SharedArrays) -> None:
        self.arrays = arrays
        self.num_tags, self.dim = len(self.rows_NS), dim_of(self.rows_NS)
        self._fill = RowFill(arrays)

    @classmethod
    def create(
        cls,
        num_tags: int,
        dim: int,
        *,
        config: HeadConfig,
        counts: np.ndarray | None = None,
        marginal: np.ndarray | None = None,
        item_offsets: np.ndarray | None = None,
        item_tags: np.ndarray | None = None,
        seed: int = 0,
        in_background: bool = False,
    ) -> "TagMatrix":
        """Allocate a fresh matrix: small random rows, biases that say "no information", the sampler's table.

        Args:
            num_tags: N.
            dim: D, a multiple of 4; of 8 for bfloat16 rows.
            config: objective, alpha, weight of the negatives, type and scale of the rows.
            counts: whole numbers [N], training count of each tag; None draws negatives uniformly.
            marginal: float64 [N], expected weight of each tag among an example's positive terms: the probability of a
                positive draw, times the tag's weight in the loss if it has one. None: proportional to the counts.
            item_offsets: int64 [I + 1], where each item's true tags start; None: chunks carry their true tags.
            item_tags: int32, the true tags of all items, ascending within each.
            seed: of the rows; equal seeds give equal rows.
            in_background: return while a thread still fills the rows, so that workers can start meanwhile; they are
                ready only when it is done (`wait_filled`).

        Raises:
            DataError: counts, marginal or true tags do not fit.
            MemoryError: the machine cannot hold the matrix.
        """
        marginal_N = None if marginal is None else checked_marginal_N(marginal, num_tags)
        matrix = cls.allocate(
            num_tags, dim, config=config, counts=counts, item_offsets=item_offsets, item_tags=item_tags
        )
        try:
            matrix.tag_state_N4[:, ROW_ACC] = matrix.tag_state_N4[:, BIAS_ACC] = 0
            mass_N = matrix.counts_N if marginal_N is None else marginal_N
            scale = matrix.counts_N.sum() if marginal_N is None else 1.0
            for n in _blocks(num_tags):
                matrix.bias_N[n] = objectives.initial_bias_N(config, mass_N[n] / scale, matrix.log_q_N[n])
            fill = matrix._fill.start if in_background else matrix._fill.run
            fill(matrix.rows_NS, config.init_scale / dim**0.5, seed)
        except BaseException:  # Ctrl-C, too, which may come at any time
            matrix.close()
            raise
        return matrix

    @classmethod
    def allocate(
        cls,
        num_tags: int,
        dim: int,
        *,
        config: HeadConfig,
        counts: np.ndarray | None = None,
        item_offsets: np.ndarray | None = None,
        item_tags: np.ndarray | None = None,
    ) -> "TagMatrix":
        """A matrix whose sampler and true tags are set while rows, biases and accumulators hold nothing yet."""
        if num_tags < 1:
            raise DataError(f"a matrix of {num_tags} tags: at least one is needed")
        if num_tags > MOST_TAGS:
            raise DataError(f"a matrix of {num_tags} tags: more than {MOST_TAGS} are not supported")
        least = Sizes(num_tags, dim, config.row_dtype, num_groups=1, num_members=0, num_items=0, num_true=0)
        check_fits(matrix_spec(least))  # before arrays of all tags are made, which alone could be too large
        counts_N = checked_counts_N(counts, num_tags)
        offsets, tags = checked_truth(item_offsets, item_tags, num_tags)
        q_N = sampling_probabilities(counts_N, config.alpha)
        groups_G4, members = build_groups(counts_N, q_N)
        sizes = Sizes(num_tags, dim, config.row_dtype, len(groups_G4), len(members), len(offsets) - 1, len(tags))
        matrix = cls(SharedArrays.create(matrix_spec(sizes)))
        try:
            with np.errstate(divide="ignore"):
                for n in _blocks(num_tags):
                    matrix.log_q_N[n] = np.log(q_N[n])
            matrix.sampler_groups_G4[:], matrix.sampler_members[:] = groups_G4, members
            matrix.counts_N[:], matrix.item_offsets[:], matrix.item_tags[:] = counts_N, offsets, tags
            matrix.worker_stats_WS[:] = matrix.applied_W[:] = matrix.arrays["is_filled"][:] = 0
        except BaseException:
            matrix.close()
            raise
        return matrix

    @classmethod
    def attach(cls, fd: int) -> "TagMatrix":
        """Map the matrix behind an inherited descriptor.

        Raises:
            MatrixMismatch: it holds something else.
        """
        arrays = SharedArrays.attach(fd)
        try:
            _check_spec(arrays)
        except BaseException:
            arrays.close()
            raise
        return cls(arrays)

    @property
    def fd(self) -> int:
        """Descriptor to pass to workers."""
        return self.arrays.fd

    @property
    def fingerprint(self) -> str:
        """Equal exactly for processes that map the same matrix."""
        return f"{self.num_tags}x{self.dim}-{self.arrays.identity}"

    @property
    def huge_pages(self) -> str:
        """What the kernel granted, in one sentence."""
        return self.arrays.huge_pages

    @property
    def num_items(self) -> int:
        """Items whose true tags lie in shared memory."""
        return len(self.item_offsets) - 1

    @property
    def rows_ND(self) -> np.ndarray:
        """All rows as float32: a view of the shared memory, or of bfloat16 rows a copy."""
        return unpack(self.rows_NS)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Rows [start, stop) as float32: a view, or of bfloat16 rows a copy."""
        return unpack(self.rows_NS[start:stop])

    @property
    def bias_N(self) -> np.ndarray:
        """View of b_t."""
        return self.tag_state_N4[:, BIAS]

    @property
    def log_q_N(self) -> np.ndarray:
        """View of log q(t); -inf for tags that are never drawn."""
        return self.tag_state_N4[:, LOG_Q]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(spec.num_bytes for spec in self.arrays.spec.values())

    @property
    def fill_limit_s(self) -> float:
        """What filling so much may take on a slow machine, seconds: more for whoever waits for it, beside its limit."""
        return self.nbytes / _FILL_BYTES_PER_S

    def mark_filled(self) -> None:
        """Rows, biases and accumulators hold what they shall begin with: workers may use them."""
        self._fill.mark()

    def wait_filled(self, limit_s: float) -> None:
        """Wait until `mark_filled` was called, in whichever process.

        Args:
            limit_s: for how long, beside `fill_limit_s`.

        Raises:
            MatrixMismatch: it was not, within the limit, or filling failed, or the matrix was closed.
        """
        self._fill.wait(limit_s + self.fill_limit_s)

    def close(self) -> None:
        """Let go of the memory. Idempotent.

        Arrays taken from it before stay valid, and keep it; those that are asked for later are a MatrixMismatch.
        """
        self._fill.stop()
        self.arrays.close()
        for name in self.arrays.spec:
            self.__dict__.pop(name, None)


def _check_spec(arrays: SharedArrays) -> None:
    """Refuse what is no matrix of this version."""
    try:
        rows_NS = arrays["rows_NS"]
        sampler = len(arrays["sampler_groups_G4"]), len(arrays["sampler_members"])
        truth = len(arrays["item_offsets"]) - 1, len(arrays["item_tags"])
        expected = matrix_spec(Sizes(len(rows_NS), dim_of(rows_NS), row_dtype_of(rows_NS), *sampler, *truth))
    except (KeyError, IndexError, TypeError, DataError) as e:
        raise MatrixMismatch(f"the shared memory holds {sorted(arrays.spec)}, which is no tag matrix") from e
    if arrays.spec != expected:
        raise MatrixMismatch(f"the shared memory holds {arrays.spec}; expected {expected}. Are versions mixed?")
