"""The examples in docstrings, run."""

import doctest
import importlib
import pkgutil

import pytest

PACKAGES = ("hybrid", "workers", "launch")


def modules_with_examples():
    """Names of all modules whose source holds an example; found without importing them."""
    for package in PACKAGES:
        for found in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            spec = None if found.ispkg else found.module_finder.find_spec(found.name, None)
            source = spec.loader.get_source(found.name) if spec and spec.loader else None
            if source and ">>> " in source:
                yield found.name


@pytest.mark.parametrize("name", sorted(modules_with_examples()))
def test_examples_in_docstrings_say_what_happens(name):
    results = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.attempted > 0
    assert results.failed == 0
