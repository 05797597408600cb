"""Kernels take the fields of named tuples one by one: names of parameters and fields agree, in this order.

Two arrays of one type that changed places would compile, and one would be written for the other.
"""

import inspect

import pytest

from workers import kernel_private, kernel_shared, private_plan
from workers.hot_rows import HotRows
from workers.kernel_private import Work
from workers.prepared_chunk import Answer, Lookup, Loss, Positives, Truth
from workers.private_plan import Plan
from workers.row_optimizers import RowUpdate
from workers.shared_plan import SharedPlan
from workers.shared_work import SharedWork
from workers.tags import Tags

OTHER_NAMES = {  # of parameters, where two tuples have a field of one name
    "plan_places": "places",
    "plan_weights": "weights",
    "plan_pos_weights_A": "pos_weights_A",
    "hot_table": "hot",
    "pos_ids": "ids_A",
    "pos_offsets_B1": "offsets_B1",
    "pos_factors": "factors_A",
    "true_offsets_B1": "offsets_B1",
    "true_tags": "tags",
    "true_starts_B": "starts_B",
    "true_stops_B": "stops_B",
    "w": "negative_weight",
}
PLAN, TABLES = Plan._fields, private_plan._Tables._fields
CHUNK = (*Positives._fields, *Truth._fields, *Loss._fields)


@pytest.mark.parametrize(
    ("kernel", "passed"),
    [
        (
            kernel_private._compile.__wrapped__(8, 8, 0, False)._kernel,  # defined, not compiled
            [
                *(*Tags._fields, *HotRows._fields, "num_hot", *PLAN, *TABLES, *Work._fields, "are_far", "neg_ids"),
                *(*CHUNK, "lr", "keep", "max_norm", "writes", "rounding_key", "features_BD", *Answer._fields),
            ],
        ),
        (
            kernel_shared._compile.__wrapped__(8, 8)._kernel,
            [
                *(*Tags._fields, "features_BD", "neg_ids", *CHUNK, *RowUpdate._fields, "writes", "rounding_key", "X"),
                *(*Lookup._fields, *SharedPlan._fields, *SharedWork._fields, *Answer._fields),
            ],
        ),
        (private_plan.fill_plan, [*TABLES, "hot_ids_H", "neg_ids", *CHUNK, "copies_hot", *PLAN]),
    ],
    ids=["private", "shared", "plan"],
)
def test_parameters_are_the_fields_that_are_passed(kernel, passed):
    parameters = inspect.signature(getattr(kernel, "py_func", kernel)).parameters
    assert [name if name in passed else OTHER_NAMES[name] for name in parameters] == passed
