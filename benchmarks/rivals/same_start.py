"""Numbers that all contestants start from."""

LEARNING_RATE = 1e-4
"""Small: batches are used again and again, and nobody shall gain or lose by rows that are learnt."""
ROW_SCALE = 0.05
"""Norm of a fresh row, about."""
