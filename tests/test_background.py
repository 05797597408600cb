"""Work in a thread: its result, its error, and that it leaves the cores to others."""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from launch.background import Background

LIMIT_S = 30.0


def test_an_error_is_raised_where_the_result_is_asked_for():
    def fail():
        raise SystemExit(3)

    work = Background(fail)
    assert work.is_done(LIMIT_S)
    with pytest.raises(SystemExit):
        work.result()


def test_it_is_not_done_before_its_function_returns():
    may_end = threading.Event()
    work = Background(lambda: may_end.wait(LIMIT_S))
    assert not work.is_done(0.01)
    may_end.set()
    assert work.is_done(LIMIT_S) and work.result()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no priority of their own")
def test_its_threads_alone_give_way_to_others():
    def niceness():
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    def of_both():
        with ThreadPoolExecutor(1) as threads:
            return niceness(), threads.submit(niceness).result()

    work = Background(of_both)
    assert work.is_done(LIMIT_S)
    own, started = work.result()
    assert own == started > niceness() == os.getpriority(os.PRIO_PROCESS, os.getpid())
