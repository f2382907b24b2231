"""map_layers: input order, bounded memory, one BLAS thread, and an orderly end whatever happens."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import threadpoolctl

from interrupting import interrupted
from lora_analysis.adapter import LowRank
from lora_analysis.errors import CancelledError, OptionError
from lora_analysis.linalg import svd
from lora_analysis.linalg.streams import available_cores, map_layers, single_threaded_blas


def blas_threads():
    return {info["num_threads"] for info in threadpoolctl.threadpool_info() if info["user_api"] == "blas"}


@pytest.fixture
def two_blas_threads():
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        yield


def late_first(number):
    time.sleep(0.05 if number == 0 else 0.0)
    return number * 10


@pytest.mark.parametrize("workers", [1, 2, 7, None])
def test_results_come_in_input_order(workers):
    assert list(map_layers(late_first, range(40), workers=workers)) == [10 * n for n in range(40)]


def test_no_items_give_no_results():
    assert list(map_layers(late_first, [])) == []


def test_items_are_taken_a_few_at_a_time():
    taken = []

    def endless():
        number = 0
        while True:
            taken.append(number)
            yield number
            number += 1

    results = map_layers(late_first, endless(), workers=2)
    for _ in range(100):
        next(results)
    results.close()
    assert len(taken) <= 100 + 2 * 4


def test_nothing_starts_before_the_first_result_is_asked_for():
    started = []
    map_layers(started.append, [1, 2, 3])
    assert started == []


def test_progress_counts_every_result_in_the_consumers_thread():
    seen = []
    list(map_layers(late_first, range(5), progress=lambda done: seen.append((done, threading.get_ident()))))
    assert seen == [(n, threading.get_ident()) for n in range(1, 6)]


def test_the_first_failure_in_input_order_is_raised_and_the_rest_is_dropped():
    begun = []

    def fail_on_three_and_four(number):
        begun.append(number)
        if number == 3:
            time.sleep(0.05)
        if number in (3, 4):
            raise ValueError(f"layer {number}")
        return number

    with pytest.raises(ValueError, match="layer 3"):
        list(map_layers(fail_on_three_and_four, range(10_000), workers=2))
    settled = len(begun)
    time.sleep(0.05)
    assert len(begun) == settled < 100


def test_a_timeout_raised_by_the_work_is_passed_on():
    def time_out(_):
        raise TimeoutError("the disk is gone")

    with pytest.raises(TimeoutError, match="the disk is gone"):
        list(map_layers(time_out, [1]))


def test_running_work_has_ended_when_an_error_arrives():
    running = set()

    def work(number):
        if number == 0:
            raise ValueError("at once")
        running.add(number)
        time.sleep(0.1)
        running.remove(number)

    with pytest.raises(ValueError, match="at once"):
        list(map_layers(work, range(8), workers=4))
    assert running == set()


def test_cancelling_stops_within_a_moment_though_a_layer_is_slow():
    asked = threading.Event()
    release = threading.Event()
    threading.Timer(0.05, asked.set).start()
    threading.Timer(0.6, release.set).start()
    begun = []

    def slow(number):
        begun.append(number)
        release.wait(5)

    with pytest.raises(CancelledError):
        list(map_layers(slow, range(100), workers=2, cancel=asked.is_set))
    assert len(begun) == 2


def test_cancelling_between_results_asks_before_each_one():
    counts = []
    with pytest.raises(CancelledError):
        list(map_layers(late_first, range(100), progress=counts.append, cancel=lambda: len(counts) >= 3))
    assert counts == [1, 2, 3]


@pytest.mark.parametrize("workers", [0, -1])
def test_fewer_than_one_worker_is_refused_at_once(workers):
    with pytest.raises(OptionError, match=f"{workers} workers"):
        map_layers(late_first, [1], workers=workers)


@pytest.mark.usefixtures("two_blas_threads")
def test_blas_has_one_thread_inside_and_its_own_number_after():
    assert set().union(*map_layers(lambda _: blas_threads(), range(4))) == {1}
    assert blas_threads() == {2}


@pytest.mark.usefixtures("two_blas_threads")
def test_overlapping_runs_restore_the_threads_once_the_last_one_ends():
    first, second = single_threaded_blas(), single_threaded_blas()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert blas_threads() == {1}
    second.__exit__(None, None, None)
    assert blas_threads() == {2}


@pytest.mark.usefixtures("two_blas_threads")
def test_blas_is_restored_after_a_failure_and_after_an_early_end():
    with pytest.raises(ZeroDivisionError):
        list(map_layers(lambda n: 1 // n, [0]))
    assert blas_threads() == {2}
    results = map_layers(late_first, range(9))
    next(results)
    results.close()
    assert blas_threads() == {2}


def test_the_bits_do_not_depend_on_the_number_of_workers():
    rng = np.random.default_rng(0)
    layers = [
        LowRank(rng.standard_normal((512 + 64 * n, 32)).astype(np.float16), rng.standard_normal((32, 700)))
        for n in range(6)
    ]

    def bits(workers):
        found = map_layers(lambda layer: svd.truncate(layer, 8), layers, workers=workers)
        return [(t.factors.up.tobytes(), t.factors.down.tobytes(), t.singular_values.tobytes()) for t in found]

    assert bits(1) == bits(2) == bits(5)


def test_the_default_is_one_worker_per_core_this_process_may_use():
    assert 1 <= available_cores() <= (os.cpu_count() or 1)


NUMPY_IN_THE_WORKER = """
from lora_analysis.linalg.streams import map_layers
def work(_):
    import numpy
    from threadpoolctl import threadpool_info
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}
print(*map_layers(work, range(2)))
"""


def test_linear_algebra_that_a_worker_loads_has_one_thread_too():
    done = subprocess.run(
        [sys.executable, "-c", NUMPY_IN_THE_WORKER], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["{1}", "{1}"]


INTERRUPTED = """
import sys, time
from lora_analysis.linalg.streams import map_layers
def work(n):
    print(n, flush=True)
    time.sleep(0.2)
try:
    list(map_layers(work, range(1000), workers=2))
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals to a child process are different there")
def test_ctrl_c_ends_the_work_at_once_and_cleanly():
    ended = interrupted(INTERRUPTED)
    assert (ended.code, ended.err) == (130, "")
    assert len(ended.out.split()) < 50
