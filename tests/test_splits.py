"""Splits depend on names alone and keep what belongs together on one side."""

import numpy as np
import pytest

from hybrid.data.build_view import MOST_HELD_OUT, SplitRule, split_items
from hybrid.data.concepts import concept_of
from hybrid.data.splits import choose_items, hash_fraction, split_by_hash

KEYS = [f"item {i}" for i in range(5000)]


def test_the_hash_never_changes() -> None:
    assert hash_fraction("1f431") == pytest.approx(0.6680041, abs=1e-7)
    assert hash_fraction("a\udcffb.jpg") != hash_fraction(
        "ab.jpg"
    )  # a file name that is not UTF-8 is a key like any other


def test_parts_are_disjoint_and_complete() -> None:
    parts = split_by_hash(KEYS, 0.1, 0.05)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(KEYS)))
    assert [len(part) / len(KEYS) for part in parts] == pytest.approx([0.85, 0.05, 0.10], abs=0.015)


def test_order_and_company_do_not_matter() -> None:
    test = {KEYS[i] for i in split_by_hash(KEYS, 0.1, 0.05)[2]}
    others = KEYS[::-1][:3000]
    assert {others[i] for i in split_by_hash(others, 0.1, 0.05)[2]} == test & set(others)


def test_equal_keys_stay_together() -> None:
    for part in split_by_hash(KEYS * 3, 0.2, 0.05):
        assert np.all(np.bincount(part % len(KEYS), minlength=len(KEYS)) % 3 == 0)


def test_a_larger_test_set_contains_the_smaller() -> None:
    small, large = (set(split_by_hash(KEYS, fraction, 0.05)[2].tolist()) for fraction in (0.1, 0.3))
    assert small < large


@pytest.mark.parametrize("num_keys", [3, 4, 10])
def test_no_part_of_a_few_items_is_empty(num_keys: int) -> None:
    assert all(len(part) for part in split_by_hash(KEYS[:num_keys], 0.01, 0.01))


def test_training_is_never_empty_whatever_the_names() -> None:
    for start in range(300):
        for num_keys in (1, 2, 3, 4):
            train, valid, test = split_by_hash(KEYS[start : start + num_keys], 0.2, 0.04)
            assert len(train) and (num_keys < 3 or (len(valid) and len(test)))
    assert len(split_by_hash(["held out"] * 5, 0.999, 0.0005)[0]) == 5


@pytest.mark.parametrize("num_keys", [0, 1, 2])
def test_too_few_to_divide(num_keys: int) -> None:
    assert sum(map(len, split_by_hash(KEYS[:num_keys], 0.1, 0.05))) == num_keys


def test_choice_of_items_is_independent_of_the_split() -> None:
    chosen = choose_items(KEYS, 1000)
    assert len(chosen) == 1000 and np.all(np.diff(chosen) > 0)
    is_test = np.isin(chosen, split_by_hash(KEYS, 0.2, 0.05)[2])
    assert is_test.mean() == pytest.approx(0.2, abs=0.04)
    assert set(choose_items(KEYS, 10)) < set(chosen)
    assert len(choose_items(KEYS, 0)) == len(choose_items(KEYS, 10**6)) == len(KEYS)


@pytest.mark.parametrize(
    "family",
    [
        ["👨‍🚀", "👩‍🚀", "🧑🏿‍🚀", "👩🏽‍🚀"],
        ["🏃", "🏃‍♀️", "🏃🏻‍♂️", "🏃‍♂"],
        ["❤️", "❤"],
        ["👨", "👩🏼", "🧑"],
        ["👨🏻‍❤️‍👨🏽", "👩‍❤‍👨"],
        ["🏻", "🏿", "♀️"],
        ["👦", "👧🏽", "🧒"],
        ["👴", "👵", "🧓🏿"],
        ["🤴", "👸", "🫅"],
        ["🧑‍🦼", "👨🏻‍🦼‍➡️"],
        ["👫", "👬", "👭🏿", "👨🏻‍🤝‍👨🏼", "🧑‍🤝‍🧑"],
        ["💑", "💑🏻", "👩‍❤️‍👨"],
        ["💏", "👩🏻‍❤️‍💋‍👨🏿"],
        ["👯", "👯‍♂️", "🧑🏻‍🐰‍🧑🏼"],
        ["👪", "👨‍👩‍👧", "🧑‍🧑‍🧒"],
        ["🤝", "🫱🏻‍🫲🏿"],
        ["🎅", "🤶🏾", "🧑‍🎄"],
        ["🇳🇴", "🇧🇻", "🇸🇯"],
        ["🔍", "🔎"],
        ["🫱🏽", "🫲"],
        ["👆", "👇🏿", "👈", "👉🏻"],
        ["➡️", "⬅️", "⬆", "⬇"],
        ["🌔", "🌖"],
        ["⏮️", "⏭"],
    ],
)
def test_one_concept(family: list[str]) -> None:
    assert len({concept_of(character) for character in family}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [("👩‍🚀", "👩‍🚒"), ("👦", "👨"), ("🐱", "🐈"), ("🇩🇪", "🇪🇩"), ("1⃣", "2⃣"), ("➡️", "↘️"), ("👪", "👨‍👦")],
)
def test_different_concepts(one: str, other: str) -> None:
    assert concept_of(one) != concept_of(other)


def test_of_a_subject_with_many_pictures_few_are_held_out() -> None:
    keys = [*["couple"] * 300, *[f"subject {i}" for i in range(300)]]
    names = [f"picture {i}" for i in range(600)]
    rule = SplitRule(test_fraction=0.99, valid_fraction=0.001, hold_out_design="")
    splits = split_items(keys, names, None, [], rule)
    of_couple = [item for item in splits.test.tolist() if keys[item] == "couple"]
    assert len(of_couple) == MOST_HELD_OUT and splits.num_spare == 300 - MOST_HELD_OUT
    assert np.ptp(of_couple) > 150  # from everywhere: neighbours are of one design
    parts = (splits.train, splits.valid, splits.test)
    assert sum(map(len, parts)) + splits.num_spare == 600 and np.all(np.diff(splits.test) > 0)
    assert np.array_equal(split_items(keys, names, None, [], rule).test, splits.test)


def test_a_design_that_is_held_out_is_bounded_alike() -> None:
    keys, names = ["couple"] * 100, [f"picture {i}" for i in range(100)]
    designs = np.arange(100) % 2
    rule = SplitRule(test_fraction=0.0, valid_fraction=0.0, hold_out_design="other")
    splits = split_items([*keys, "a", "b"], [*names, "a", "b"], np.append(designs, [0, 0]), ["one", "other"], rule)
    assert len(splits.extra["other"]) == MOST_HELD_OUT and splits.num_spare == 50 - MOST_HELD_OUT
