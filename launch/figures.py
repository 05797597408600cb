"""Figures as people read them."""

import itertools
import math
from collections.abc import Sequence

LEAST_SHOWN = 0.001
"""Of shares of time in a list: a smaller one is next to nothing."""
_BARS = "▁▂▃▄▅▆▇█"


def count(value: float) -> str:
    """A whole number with separators: `1,024`."""
    return f"{value:,.0f}" if math.isfinite(value) else "-"


def rate(value: float) -> str:
    """A rate with three digits and a unit prefix.

    Example:
        >>> rate(812.4), rate(1_234_567), rate(45_600)
        ('812', '1.23 M', '45.6 k')
    """
    if not math.isfinite(value):
        return "-"
    for limit, prefix in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if abs(value) >= limit:
            scaled = value / (1e3 if prefix == " k" else limit)
            return f"{scaled:.{max(0, 2 - int(math.log10(abs(scaled))))}f}{prefix}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def share(value: float) -> str:
    """A share as a percentage."""
    return f"{value:.1%}" if math.isfinite(value) else "-"


def duration(seconds: float) -> str:
    """Minutes and seconds, or hours: `3:07`, `1:02:09`; `-` where it is not known."""
    if not math.isfinite(seconds) or seconds < 0:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def score(value: object) -> str:
    """A metric: three decimals for a fraction, separators for a count, `-` where nothing was measured."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def sparkline(values: Sequence[float], width: int = 32) -> str:
    """A small curve in one line of text, oldest on the left.

    Example:
        >>> sparkline([3.0, 2.0, 1.0, 1.0], width=4)
        '█▅▁▁'
    """
    if not values or width < 1:
        return ""
    edges = [round(i * len(values) / min(width, len(values))) for i in range(min(width, len(values)) + 1)]
    means = [sum(values[i:j]) / (j - i) for i, j in itertools.pairwise(edges)]
    low, high = min(means), max(means)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[int((mean - low) * scale + 0.5)] for mean in means)
