"""Rivals of the wide engine as persistent contestants: each a module with `prepare`, see `benchmarks.contestant`.

They import their own library, NumPy, each other and what `benchmarks` has without Numba only, so that they run in an
environment of their own. Units, and what differs from the engine's work, are told in each `prepare`.
"""
