"""Names of the forms in which torch is a rival."""

AUTOGRAD, BY_HAND = "autograd", "by hand"
"""As users write it, and without a graph or needless temporaries."""
ALL_LOGITS, CHUNKS, STEPPED_CHUNKS = "all logits", "chunks", "stepped chunks"
"""The dense layer: at once; in chunks, the optimizer stepping at the end; in chunks, each stepped at once by hand."""
