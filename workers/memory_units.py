"""Units in which a machine moves memory: the line of a cache, the huge page."""

LINE_BYTES = 64
"""Of a cache line."""
HUGE_PAGE_BYTES = 2 << 20
"""Of a huge page."""
