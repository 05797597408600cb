"""What a trunk process refuses while its launcher still prepares the data."""

import os
import socket
import subprocess

import pytest

from launch.child import TRUNK_COMMAND
from launch.config import DataConfig, RunConfig, TrunkConfig
from launch.run_settings import write_config
from workers.environment import child_environment

LIMIT_S = 120.0


@pytest.mark.parametrize(
    ("trunk", "told"),
    [
        (TrunkConfig(factory="nowhere_to_be_found:make"), "trunk.factory = 'nowhere_to_be_found:make'"),
        (TrunkConfig(device="cuda"), "trunk.device = 'cuda', but torch finds no CUDA device"),
    ],
)
def test_what_cannot_be_trained_ends_the_trunk_before_it_is_told_to_begin(tmp_path, trunk, told):
    write_config(tmp_path, RunConfig(data=DataConfig(source="emoji"), trunk=trunk))
    (alive, lifeline), (ours, theirs) = os.pipe(), socket.socketpair()
    link = f"ipc://{tmp_path}/link"
    arguments = ["train", str(tmp_path), "--link", link, "--lifeline-fd", str(alive)]
    process = subprocess.run(
        [*TRUNK_COMMAND, *arguments, "--assignment-fd", str(theirs.fileno())],
        pass_fds=[alive, theirs.fileno()],
        env={**child_environment(), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    ours.close(), theirs.close(), os.close(alive), os.close(lifeline)
    assert process.returncode == 2 and told in process.stderr and "Traceback" not in process.stderr
