"""The numbers of chunks that are served without a step."""


class ChunkNumbers:
    """Gives calls that stay at one step chunk numbers of their own, counted from 0 at each step.

    The number seeds what a chunk draws: validation batches that all had the same numbers would share one draw of
    negatives, and their mean would be as noisy as a single one. The same calls in the same order get the same numbers.

    Args:
        chunk_size: examples of a chunk.

    Example:
        >>> numbers = ChunkNumbers(chunk_size=64)
        >>> numbers.take(step=7, num_examples=130), numbers.take(step=7, num_examples=130)
        (0, 3)
        >>> numbers.take(step=8, num_examples=130)
        0
    """

    def __init__(self, chunk_size: int) -> None:
        self._chunk_size = chunk_size
        self._step, self._next = 0, 0

    def take(self, step: int, num_examples: int) -> int:
        """The first number for the chunks of so many examples; no earlier call at this step had one of theirs."""
        first = self._next if step == self._step else 0
        self._step, self._next = step, first - (-num_examples // self._chunk_size)
        return first
