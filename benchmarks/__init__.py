"""Benchmarks as code: each suite measures, writes JSON, and draws its tables and plots from that JSON."""
