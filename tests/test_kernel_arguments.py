"""Kernels take the fields of named tuples one by one: names of parameters and fields agree, in this order.

Two arrays of one type that changed places would compile, and one would be written for the other.
"""

import inspect

import pytest

from workers import kernel_private, kernel_shared, private_plan
from workers.admission import admission
from workers.hot_rows import HotRows
from workers.kernel_private import Work
from workers.prepared_chunk import NUM_ADMITTED, Answer, Lookup, Loss, Positives, PreparedChunk, Truth
from workers.private_plan import Plan
from workers.shared_plan import SharedPlan
from workers.shared_work import SharedWork
from workers.tags import Tags

OTHER_NAMES = {  # of parameters, where two tuples have a field of one name
    "plan_places": "places",
    "plan_weights": "weights",
    "plan_pos_weights_A": "pos_weights_A",
    "hot_table": "hot",
    "ids_A": "pos_ids_A",
    "offsets_B1": "pos_offsets_B1",
    "factors_A": "pos_factors_A",
    "true_starts_B": "starts_B",
    "true_stops_B": "stops_B",
    "w": "negative_weight",
    "_optimizer": "optimizer",
    "_decays": "decays",
}
POSITIVES = [f"pos_{name}" for name in Positives._fields]
TRUTH = [name if name.startswith("item") else f"true_{name}" for name in Truth._fields]
PLAN, TABLES, CHUNK = Plan._fields, private_plan._Tables._fields, PreparedChunk._fields


@pytest.mark.parametrize(
    ("kernel", "passed"),
    [
        (
            kernel_private._compile.__wrapped__(8, 8, 0, False)._kernel,  # defined, not compiled
            [
                *(*Tags._fields, *HotRows._fields, "num_hot", *PLAN, *TABLES, *Work._fields, "are_far"),
                *(*CHUNK, *Answer._fields),
            ],
        ),
        (
            kernel_shared._compile.__wrapped__(8, 8)._kernel,
            [
                *(*Tags._fields, *Lookup._fields, *SharedPlan._fields, *SharedWork._fields, "X"),
                *(*CHUNK, *Answer._fields),
            ],
        ),
        (
            private_plan.fill_plan,
            [
                *(*TABLES, "hot_ids_H", "neg_ids", *POSITIVES, *TRUTH, *Loss._fields, "copies_hot", *PLAN),
            ],
        ),
        (
            admission._kernel,
            [*CHUNK[:NUM_ADMITTED], "num_tags", "dim", "num_items", "applied_W", "groups_G4", "members_X"],
        ),
    ],
    ids=["private", "shared", "plan", "admission"],
)
def test_parameters_are_the_fields_that_are_passed(kernel, passed):
    parameters = inspect.signature(getattr(kernel, "py_func", kernel)).parameters
    assert [name if name in passed else OTHER_NAMES[name] for name in parameters] == passed
