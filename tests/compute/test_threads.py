"""Threads divide an axis into ranges."""

import threading

import pytest

from edgefilter.compute.threads import ThreadBackend


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(
    ("count", "align", "ranges_per_thread"), [(0, 1, 1), (1, 1, 4), (100, 1, 1), (100, 8, 4), (5, 64, 2)]
)
def test_ranges_cover_the_axis_once_and_are_aligned(threads, count, align, ranges_per_thread):
    seen = []
    with ThreadBackend(threads) as backend:
        backend.parallel_for(count, lambda start, stop: seen.append((start, stop)), align, ranges_per_thread)
    assert [n for start, stop in sorted(seen) for n in range(start, stop)] == list(range(count))
    assert all(start % align == 0 for start, _ in seen)


def test_a_failure_is_raised_after_all_threads_have_stopped():
    started, done = threading.Event(), []

    def run(start, stop):
        if start == 0:
            started.wait(10)
            raise ValueError("first")
        started.set()
        done.append(stop)

    with ThreadBackend(2) as backend:
        with pytest.raises(ValueError, match="first"):
            backend.parallel_for(8, run, ranges_per_thread=4)
        assert sum(done) == sum(range(2, 9))
        assert backend.run_async(lambda: 3)() == 3


@pytest.mark.parametrize("threads", [1, 2])
def test_asynchronous_work_runs_beside_ranges(threads):
    with ThreadBackend(threads) as backend:
        result = backend.run_async(lambda: "result")
        backend.parallel_for(4, lambda start, stop: None)
        assert result() == "result"
