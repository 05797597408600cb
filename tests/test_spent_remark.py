"""What a resume that found its budget spent is told to do."""

import pytest

from launch.config import TrainConfig
from launch.report import spent_remark


@pytest.mark.parametrize(
    ("own", "given", "told", "advice"),
    [
        ({"minutes": 9.0}, {"minutes": 2.0}, "2 minutes", "--minutes 18"),
        ({"minutes": 2.0}, {"minutes": 3.0}, "3 minutes", "--minutes 6"),
        ({"epochs": 30.0}, {"minutes": 1.0}, "1 minute", "--epochs 60"),
        ({"minutes": 9.0}, {"epochs": 1.0}, "1 epoch", "--minutes 18"),
    ],
)
def test_the_command_gives_more_than_the_run_has_used(tmp_path, own, given, told, advice):
    remark = spent_remark(tmp_path, TrainConfig(**given), TrainConfig(**own))
    assert remark.startswith(f"The budget of {told} was spent") and remark.endswith(f" {advice}")
