"""What workers count about themselves, in shared memory that everybody may read."""

NUM_STATS = 16
"""Columns of `worker_stats_WS`, of which five are free: a row is two cache lines, which no other worker writes."""
(
    SERVED,
    EXAMPLES,
    NEGATIVES,
    STALENESS,
    WAIT_NS,
    RECEIVE_NS,
    DRAW_NS,
    KERNEL_NS,
    REPLY_NS,
    WARM_UP_NS,
    COMPILED,
) = range(11)
"""Columns of `worker_stats_WS`: chunks computed (refused ones do not count), examples, negatives drawn, summed
staleness in chunks; nanoseconds of each phase (`workers.phase_clock`); of the latest worker in this place, nanoseconds
until its kernels were compiled or loaded, and how many had to be compiled. By the former `workers.pool` sees that a
worker has its kernels."""
