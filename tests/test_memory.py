"""Shared memory: layout, poison, attaching, damage, lifetime."""

import ctypes
import errno
import gc
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from workers import memory
from workers.errors import MatrixMismatch
from workers.host_memory import available_bytes
from workers.memory import HEADER_BYTES, ArraySpec, SharedArrays
from workers.memory_units import HUGE_PAGE_BYTES, LINE_BYTES

ROOT = Path(__file__).resolve().parents[1]
SPEC = {
    "small": ArraySpec("<f4", (3, 5)),
    "empty": ArraySpec("<i4", (0,)),
    "numbers": ArraySpec("<i8", (7,)),
    "large": ArraySpec("<f4", (HUGE_PAGE_BYTES // 4 + 1,)),
}


def test_arrays_are_aligned_and_do_not_overlap():
    arrays = SharedArrays.create(SPEC)
    for name, spec in SPEC.items():
        address = arrays[name].ctypes.data
        assert arrays[name].shape == spec.shape
        assert address % (HUGE_PAGE_BYTES if name == "large" else LINE_BYTES) == 0
        arrays[name][...] = list(SPEC).index(name)
    for name in SPEC:
        assert (arrays[name] == list(SPEC).index(name)).all()


def test_fresh_memory_is_zero(monkeypatch):
    monkeypatch.setattr(memory, "poisons", False)
    arrays = SharedArrays.create(SPEC)
    assert not any(arrays[name].any() for name in SPEC)


def test_poison_is_seen():
    arrays = SharedArrays.create(SPEC)
    assert np.isnan(arrays["small"]).all()
    assert np.isnan(arrays["large"]).all()
    assert (arrays["numbers"] == -1).all()


def test_attached_arrays_are_the_same_memory():
    arrays = SharedArrays.create(SPEC)
    other = SharedArrays.attach(arrays.fd)
    assert other.spec == SPEC
    assert other.identity == arrays.identity
    arrays["numbers"][3] = 42
    assert other["numbers"][3] == 42
    other["large"][-1] = 2.5
    assert arrays["large"][-1] == 2.5


def test_another_process_sees_the_arrays_through_the_descriptor():
    arrays = SharedArrays.create(SPEC)
    arrays["numbers"][:] = range(7)
    code = (
        "import sys; from workers.memory import SharedArrays; a = SharedArrays.attach(int(sys.argv[1])); "
        "a['small'][:] = a['numbers'].sum()"
    )
    subprocess.run([sys.executable, "-c", code, str(arrays.fd)], pass_fds=[arrays.fd], check=True, timeout=60)
    assert (arrays["small"] == 21).all()


def test_nothing_has_a_name():
    """Neither in /dev/shm nor in the temporary directory; only descriptors lead to the memory."""
    arrays = SharedArrays.create(SPEC)
    target = str(Path(f"/proc/self/fd/{arrays.fd}").readlink())
    assert target.endswith("(deleted)")


def test_arrays_outlive_close():
    """Memory is unmapped with its last view, never under one."""
    arrays = SharedArrays.create(SPEC)
    view = arrays["numbers"][2:5]
    view[:] = 9
    arrays.close()
    arrays.close()
    with pytest.raises(MatrixMismatch, match="numbers lies in shared memory that was closed"):
        arrays["numbers"]
    del arrays
    gc.collect()
    assert view.sum() == 27


def test_arrays_can_be_used_until_the_very_end_of_a_process():
    program = """
import atexit
atexit.register(lambda: print(view.sum()))  # called after everything that is registered later
from workers.memory import ArraySpec, SharedArrays
arrays = SharedArrays.create({"numbers": ArraySpec("<i8", (4,))})
view = arrays["numbers"]
view[:] = 9
arrays.close()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (done.returncode, done.stdout) == (0, "36\n"), done.stderr


def test_the_descriptor_goes_with_arrays_that_nobody_closed():
    arrays = SharedArrays.create(SPEC)
    fd = arrays.fd
    os.fstat(fd)
    del arrays
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_a_number_that_another_file_has_got_meanwhile_is_not_closed_again(tmp_path):
    arrays = SharedArrays.create(SPEC)
    number = arrays.fd
    arrays.close()
    other = os.open(tmp_path, os.O_RDONLY)
    taken = {other, os.dup2(other, number)}
    arrays.close()
    del arrays
    gc.collect()
    assert os.path.samestat(os.fstat(number), tmp_path.stat())
    for fd in taken:
        os.close(fd)


def test_memory_is_given_back():
    arrays = SharedArrays.create(SPEC)
    start = f"{arrays['large'].ctypes.data - HUGE_PAGE_BYTES:x}-"

    def is_mapped():
        return any(line.startswith(start) for line in Path("/proc/self/maps").read_text().splitlines())

    assert is_mapped()
    arrays.close()
    del arrays
    gc.collect()
    assert not is_mapped()


def test_temporary_file_where_memfd_is_missing(monkeypatch):
    monkeypatch.delattr(os, "memfd_create")
    arrays = SharedArrays.create(SPEC)
    arrays["numbers"][:] = 5
    assert (SharedArrays.attach(arrays.fd)["numbers"] == 5).all()
    assert str(Path(f"/proc/self/fd/{arrays.fd}").readlink()).endswith("(deleted)")
    assert "temporary file" in arrays.huge_pages


@pytest.mark.parametrize(
    ("known", "is_hardened", "is_file"), [(True, True, False), (False, False, False), (False, True, True)]
)
def test_hardened_kernels_give_memory_that_cannot_be_executed(monkeypatch, known, is_hardened, is_file):
    """And kernels before 6.3 do not know the flag; where no memory is given at all, a file takes its place."""
    create = os.memfd_create

    def memfd_create(name, flags):
        if flags & memory._MFD_NOEXEC_SEAL:
            if not known:
                raise OSError(errno.EINVAL, "Invalid argument")
            return create(name, flags & ~memory._MFD_NOEXEC_SEAL)
        if is_hardened:
            raise OSError(errno.EACCES, "Permission denied")
        return create(name, flags)

    monkeypatch.setattr(os, "memfd_create", memfd_create)
    arrays = SharedArrays.create(SPEC)
    assert ("temporary file" in arrays.huge_pages) == is_file
    arrays.close()


def test_a_full_disk_is_an_error_before_a_page_is_touched(monkeypatch):
    """A page that a file has no room for ends the process that touches it, by SIGBUS."""

    def full(fd, start, num_bytes):
        assert os.fstat(fd).st_blocks == 0
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(MemoryError, match="No space left"):
        SharedArrays.create({"large": ArraySpec("|u1", (4 * HUGE_PAGE_BYTES,))})


def test_a_part_without_huge_pages_is_not_taken_for_all(monkeypatch):
    monkeypatch.setattr(memory, "_COLLAPSED_BYTES", HUGE_PAGE_BYTES)
    answers = iter([0, -1] + [0] * 100)
    real = memory._libc

    class Libc:
        def __getattr__(self, name):
            return getattr(real, name)

        def madvise(self, *args):
            ctypes.set_errno(errno.ENOMEM)
            return next(answers)

    monkeypatch.setattr(memory, "_libc", Libc())
    arrays = SharedArrays.create({"large": ArraySpec("<f4", (4 * HUGE_PAGE_BYTES // 4,))})
    assert re.fullmatch(
        r"huge pages of 2 MiB, ordinary ones in 1 of \d parts \(Cannot allocate memory\)", arrays.huge_pages
    )


def test_refused_huge_pages_are_said_and_not_fatal(monkeypatch):
    monkeypatch.setattr(memory, "_MADV_COLLAPSE", 12345)
    arrays = SharedArrays.create(SPEC)
    assert "refused" in arrays.huge_pages
    assert np.isnan(arrays["large"]).all()


def test_more_memory_than_there_is():
    """Found before the first page is touched: afterwards the kernel would kill this process, or another."""
    held = SharedArrays.create({"mine": ArraySpec("<f4", (1 << 24,))})
    with pytest.raises(MemoryError, match=r"available: .* 0\.\d\d GiB are held by this process"):
        SharedArrays.create({"huge": ArraySpec("<f4", (1 << 44,))})
    held.close()


def test_memory_that_only_a_reference_cycle_holds_is_freed_before_it_is_missed(monkeypatch):
    class Owner:
        def __init__(self):
            self.me, self.arrays = self, SharedArrays.create(SPEC)

    monkeypatch.setattr(memory, "_held", {})
    gc.collect()
    gc.disable()
    try:
        Owner()
        (lost,) = memory._held
        monkeypatch.setattr(memory, "available_bytes", lambda: 0 if lost in memory._held else 1 << 40)
        arrays = SharedArrays.create(SPEC)
        assert len(memory._held) == 1 and np.isnan(arrays["small"]).all(), "the new one alone"
    finally:
        gc.enable()


V2 = {"max": "9000", "current": "5000", "stat": "anon 1\nactive_file 300\ninactive_file 200\n"}
V1 = {"limit_in_bytes": "9000", "usage_in_bytes": "5000", "stat": "total_active_file 300\ntotal_inactive_file 200\n"}


@pytest.mark.parametrize(
    ("line", "group", "files"),
    [
        ("0::/", "", V2),
        ("0::/slurm/job_7/step", "slurm/job_7", V2),
        ("4:memory:/job", "memory/job", V1),
        ("0::/ours\n9:memory,pids:/outside/the/container", "memory,pids", V1),
    ],
)
def test_the_limit_of_every_control_group_counts(tmp_path, line, group, files):
    """Of both versions, and of groups around the one that this process is in."""
    for path, text in {
        "proc/self/cgroup": line,
        "proc/meminfo": "MemTotal: 99 kB\nMemAvailable: 50 kB\n",
        **{f"sys/fs/cgroup/{group}/memory.{name}": text for name, text in files.items()},
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text + "\n")
    assert available_bytes(tmp_path) == 9000 - (5000 - 500)
    name, no_limit = ("max", "max") if files is V2 else ("limit_in_bytes", str(2**63 - 4096))
    (tmp_path / f"sys/fs/cgroup/{group}/memory.{name}").write_text(no_limit + "\n")
    assert available_bytes(tmp_path) == 50 * 1024
    assert available_bytes(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda page: b"\0" * 8 + page[8:], "starts with"),
        (lambda page: page[:8] + b"\x63" + page[9:], "version 99"),
        (lambda page: page[:16] + b"{" * 40 + page[56:], "damaged"),
        (lambda page: page.replace(b"[3, 5]", b"[3,-5]"), "small"),
        (lambda page: page.replace(b" 2097152]", b" 9097152]"), "large"),
    ],
    ids=["magic", "version", "json", "negative-shape", "too-long"],
)
def test_damaged_header(damage, said):
    arrays = SharedArrays.create(SPEC)
    page = os.pread(arrays.fd, HEADER_BYTES, 0)
    damaged = damage(page)[:HEADER_BYTES]
    assert damaged != page
    os.pwrite(arrays.fd, damaged, 0)
    with pytest.raises(MatrixMismatch, match=said):
        SharedArrays.attach(arrays.fd)


def test_descriptors_that_lead_elsewhere(tmp_path):
    with pytest.raises(MatrixMismatch, match="not open"):
        SharedArrays.attach(987)
    with (tmp_path / "short").open("w+b") as file, pytest.raises(MatrixMismatch, match="no header"):
        SharedArrays.attach(file.fileno())
