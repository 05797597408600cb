"""Cores: how many may be used, which share what, who gets which; on invented machines."""

import os
import subprocess
import sys

import pytest
import torch

from launch.config import RunConfig, TrainConfig, TrunkConfig
from launch.placement import place, place_run, scale_remark
from launch.topology import Cpu, Topology, read_topology
from launch.trunk_threads import plan_threads
from workers.accelerator import has_accelerator
from workers.cores import as_text, available_cores, cpu_quota, of_text, pin, pinned
from workers.default_workers import default_num_workers

QUOTA, PERIOD = "cpu.cfs_quota_us", "cpu.cfs_period_us"
ALL_SIZES = [1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 128, 256]


def write(root, path, text):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Makes the /sys and /proc of a machine whose CPUs a process may all use."""

    def make(cpus=1, threads_per_core=1, nodes=1, allowed=None):
        num_physical = cpus // threads_per_core
        for cpu in range(cpus):  # hyperthreads are numbered as Linux does: all first ones, then all second ones
            siblings = ",".join(str(c) for c in range(cpu % num_physical, cpus, num_physical))
            write(tmp_path, f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", siblings + "\n")
        for node in range(nodes):
            on_node = [c for c in range(cpus) if c % num_physical * nodes // num_physical == node]
            write(tmp_path, f"sys/devices/system/node/node{node}/cpulist", as_text(on_node) + "\n")
        monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(cpus) if allowed is None else allowed))
        return tmp_path

    return make


def test_one_core_is_shared_and_said_so(machine):
    placement = place(read_topology(machine(1)), threads=1, workers=2)
    assert placement.trunk == placement.workers == (0,)
    assert "share 1 cores" in placement.remarks[1]


def test_two_cores_are_one_for_the_trunk_and_one_for_the_worker(machine):
    placement = place(read_topology(machine(2)), threads=1, workers=1)
    assert (placement.trunk, placement.workers) == ((0,), (1,))
    assert len(placement.remarks) == 1
    shared = place(read_topology(machine(2)), threads=2, workers=2)
    assert (shared.trunk, shared.workers) == ((0,), (1,))  # a worker never sits on the trunk's core if it can be helped
    assert "(2) and workers (2) share 2 cores" in shared.remarks[1]


def test_physical_cores_come_before_hyperthreads(machine):
    placement = place(read_topology(machine(8, threads_per_core=2)), threads=1, workers=4)
    assert placement.trunk == (0,)
    assert placement.workers[:3] == (1, 2, 3)
    assert len(placement.remarks) == 1


def test_a_large_machine_keeps_workers_and_memory_on_one_node(machine):
    topology = read_topology(machine(64, threads_per_core=2, nodes=2))
    assert topology.nodes == {0: 32, 1: 32}
    placement = place(topology, threads=8, workers=8)
    assert placement.trunk == tuple(range(8))
    assert placement.workers[:8] == tuple(range(16, 24))  # node 1, of which nothing is taken
    assert placement.workers[16:24] == tuple(range(8, 16))  # then the physical cores of the other node
    assert placement.memory == (*range(16, 32), *range(48, 64))
    assert "lies, on node 1; workers are on 1" in placement.remarks[-1]
    many = place(topology, threads=8, workers=20)
    assert "workers are on 0-1" in many.remarks[-1]


@pytest.fixture(autouse=True)
def exported(monkeypatch):
    """Exports thread counts; there are none until a test says so."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch.setenv


@pytest.mark.parametrize("pin", [False, True])
def test_threads_that_the_user_exported_are_those_of_the_trunk_and_it_is_said(machine, exported, pin):
    topology = read_topology(machine(8))
    exported("MKL_NUM_THREADS", "5")
    exported("OMP_NUM_THREADS", "3")
    placement = place_run(RunConfig(workers=2, trunk=TrunkConfig(device="cpu"), pin=pin), topology)
    assert (placement.threads, placement.are_threads_fixed, len(placement.trunk)) == (3, True, 3 * pin)
    assert placement.remarks[-1] == "trunk threads: 3, as OMP_NUM_THREADS says; --trunk-threads would come first"


def test_a_setting_comes_before_what_is_exported_and_without_both_threads_are_tuned(machine, exported):
    topology = read_topology(machine(8))
    free = place_run(RunConfig(workers=2, trunk=TrunkConfig(device="cpu")), topology)
    assert (free.threads, free.are_threads_fixed, free.remarks) == (6, False, ())
    exported("OMP_NUM_THREADS", "3")
    given = place_run(RunConfig(workers=2, trunk=TrunkConfig(device="cpu", threads=4)), topology)
    assert (given.threads, given.are_threads_fixed, given.remarks) == (4, True, ())


def test_several_nodes_are_told_of_even_where_nothing_is_pinned(machine):
    topology = read_topology(machine(64, threads_per_core=2, nodes=2))
    config = RunConfig(workers=4, trunk=TrunkConfig(device="cpu"))
    placement = place_run(config, topology)
    assert placement.trunk == placement.workers == placement.memory == ()
    assert "NUMA nodes: 0: 32 cores, 1: 32 cores" in placement.remarks[0]
    assert place_run(config, read_topology(machine(2))).remarks == ()


def test_a_quota_bounds_what_is_used_of_a_large_machine(machine):
    root = machine(64, threads_per_core=2)
    write(root, "proc/self/cgroup", "0::/box/inner\n")
    write(root, "sys/fs/cgroup/box/cpu.max", "200000 100000\n")
    write(root, "sys/fs/cgroup/box/inner/cpu.max", "max 100000\n")
    topology = read_topology(root)
    assert (len(topology.cpus), topology.num_usable) == (64, 2)
    placement = place(topology, threads=1, workers=2)
    assert (placement.trunk, placement.workers) == ((0,), (1,))
    assert "share 2 cores" in placement.remarks[1]


def test_what_the_affinity_leaves_out_is_not_used(machine):
    topology = read_topology(machine(8, threads_per_core=2, allowed={2, 3, 6, 7}))
    placement = place(topology, threads=1, workers=3)
    assert placement.trunk == (2,)
    assert placement.workers == (3, 6, 7)


def test_a_machine_that_tells_nothing_still_has_its_cores(tmp_path, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 5})
    topology = read_topology(tmp_path)
    assert topology == Topology((Cpu(0, 0, 0), Cpu(5, 5, 0)), 2)


@pytest.mark.parametrize(
    ("cgroup", "files", "quota"),
    [
        ("0::/a\n", {"a/cpu.max": "250000 100000"}, 2.5),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "150000 100000"}, 1.5),
        ("0::/of/the/host\n", {"cpu.max": "400000 100000"}, 4.0),  # a container sees its own group at the top
        ("0::/a\n", {"a/cpu.max": "max 100000"}, None),
        ("0::/a\n", {"a/cpu.max": "nonsense"}, None),
        ("4:memory:/x\n2:cpu,b:/x\n", {f"cpu,b/x/{QUOTA}": "50000", f"cpu,b/x/{PERIOD}": "100000"}, 0.5),
        ("1:cpu:/y\n0::/\n", {f"cpu/{QUOTA}": "-1", f"cpu/{PERIOD}": "100000"}, None),
        ("", {}, None),
    ],
)  # fmt: skip
def test_quotas_of_both_versions_of_control_groups(tmp_path, cgroup, files, quota):
    write(tmp_path, "proc/self/cgroup", cgroup)
    for path, text in files.items():
        write(tmp_path, f"sys/fs/cgroup/{path}", text + "\n")
    assert cpu_quota(tmp_path) == quota
    expected = len(os.sched_getaffinity(0)) if quota is None else max(1, min(len(os.sched_getaffinity(0)), int(quota)))
    assert available_cores(tmp_path) == expected


@pytest.mark.parametrize(
    ("build", "with_nvidia", "with_amd"),
    [("", True, False), ("cu130", True, False), ("rocm7.0", False, True), ("cpu", False, False)],
)
def test_accelerators_are_found_by_their_drivers_if_torch_is_built_for_them(
    tmp_path, monkeypatch, build, with_nvidia, with_amd
):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    write(tmp_path, "nvidia/proc/driver/nvidia/gpus/0000:01:00.0/information", "")
    write(tmp_path, "windows/dev/dxg", "")
    assert not has_accelerator(tmp_path / "windows", build), "of whatever maker"
    write(tmp_path, "windows/usr/lib/wsl/lib/libcuda.so.1", "")
    write(tmp_path, "amd/sys/module/amdgpu/version", "")
    assert not has_accelerator(tmp_path, build)
    assert has_accelerator(tmp_path / "nvidia", build) == with_nvidia
    assert has_accelerator(tmp_path / "windows", build) == with_nvidia
    assert has_accelerator(tmp_path / "amd", build) == with_amd
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not has_accelerator(tmp_path / "nvidia", build) and not has_accelerator(tmp_path / "amd", build)


def test_what_torch_is_built_for_is_told_without_loading_it():
    program = "import sys; from workers.accelerator import torch_build; print(torch_build(), 'torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    build = torch.__version__.partition("+")[2]
    assert told.split(" ") in ([build, "False\n"], ["", "False\n"]), "PyPI's metadata leaves the build out"


@pytest.mark.parametrize(
    ("cores", "workers", "device", "asked", "threads"),
    [
        (2, 2, "auto", 0, 1),
        (2, 0, "cpu", 0, 2),
        (8, 2, "cpu", 0, 6),
        (8, 7, "cpu", 0, 1),
        (1, 8, "cpu", 0, 1),
        (16, 8, "cuda", 0, 8),
        (16, 8, "cuda:1", 0, 8),
        (4, 8, "cuda", 0, 1),
        (16, 8, "cpu", 3, 3),
    ],
)
def test_threads_of_the_trunk(cores, workers, device, asked, threads):
    assert plan_threads(cores, workers, device, asked) == threads


@pytest.mark.parametrize("cores", ALL_SIZES)
@pytest.mark.parametrize("has_accelerator", [False, True])
def test_defaults_never_oversubscribe_where_cores_allow(monkeypatch, cores, has_accelerator):
    monkeypatch.setattr("workers.default_workers.available_cores", lambda: cores)
    monkeypatch.setattr("workers.accelerator.has_accelerator", lambda: has_accelerator)
    workers = default_num_workers()
    threads = plan_threads(cores, workers, "cuda" if has_accelerator else "auto", asked=0)
    assert workers >= 2 and threads >= 1
    assert threads + workers <= max(cores, 3)  # two workers and a trunk need three


@pytest.mark.parametrize("cores", ALL_SIZES)
@pytest.mark.parametrize("workers", [1, 2, 5, 9, 40])
def test_pinned_processes_share_no_core_unless_it_is_said(machine, cores, workers):
    topology = read_topology(machine(cores, threads_per_core=2 if cores % 2 == 0 else 1, nodes=2 if cores >= 8 else 1))
    threads = plan_threads(cores, workers, "cpu", asked=0)
    placement = place(topology, threads, workers)
    own = [placement.workers[i % len(placement.workers)] for i in range(workers)]
    crowded = len(set(own) | set(placement.trunk)) < workers + threads
    assert crowded == any("share" in remark for remark in placement.remarks)
    assert cores == 1 or not set(placement.trunk) & set(placement.workers)
    assert set(placement.trunk) | set(placement.workers) == set(range(cores))


def test_lists_of_cores_are_read_back():
    for cores in ([], [3], [0, 1, 2], [0, 2, 3, 9]):
        assert of_text(as_text(cores)) == cores
    with pytest.raises(ValueError):
        of_text("0-x")


def test_pinning_holds_for_threads_that_are_there_and_is_taken_back():
    program = (
        "import os, threading\n"
        "from workers.cores import pinned\n"
        "before = os.sched_getaffinity(0)\n"
        "done = threading.Event()\n"
        "thread = threading.Thread(target=done.wait)\n"
        "thread.start()\n"
        "first = {min(before)}\n"
        "with pinned(first):\n"
        "    assert os.sched_getaffinity(0) == os.sched_getaffinity(thread.native_id) == first\n"
        "assert os.sched_getaffinity(0) == os.sched_getaffinity(thread.native_id) == before\n"
        "with pinned([]):\n"
        "    assert os.sched_getaffinity(0) == before\n"
        "done.set()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_cores_that_are_not_there_are_warned_of(caplog):
    before = os.sched_getaffinity(0)
    pin([1023])
    assert "cannot keep to cores 1023" in caplog.text
    with pinned([1023]):
        pass
    assert os.sched_getaffinity(0) == before


def test_workers_beyond_the_cores_are_remarked_on_and_many_more_so_the_more(monkeypatch):
    monkeypatch.setattr("launch.placement.available_cores", lambda: 4)
    assert scale_remark(4, (), 100) == scale_remark(2, (5, 6), 100) == ""
    assert scale_remark(5, (), 100) == "more than the 4 cores here"
    assert scale_remark(100, (), 100) == "more than the 4 cores here, 25 to a core: steps will take many times as long"
    assert scale_remark(3, (5, 6), 100) == "they share cores 5-6"
    assert "4 to a core: steps" in scale_remark(8, (5, 6), 100)


def test_workers_beyond_the_chunks_of_a_step_are_remarked_on_at_the_start_and_when_scaled(monkeypatch):
    monkeypatch.setattr("launch.placement.available_cores", lambda: 16)
    config = RunConfig(workers=9, train=TrainConfig(batch_size=128, microbatches=2), trunk=TrunkConfig(device="cpu"))
    assert config.chunks_per_step == 4
    told = "5 of 9 workers have nothing to do: a step has 4 chunks"
    assert place_run(config, read_topology()).remarks[-1].startswith(told)
    assert scale_remark(9, (), 4).startswith(told) and scale_remark(4, (), 4) == ""
    assert scale_remark(20, (), 4).startswith("more than the 16 cores here; 16 of 20 workers have nothing to do")
