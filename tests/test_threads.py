"""The limit of one BLAS thread, and that it stays until the last computation has left."""

import threading

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from h5dask.threads import one_blas_thread


def blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def two_threads():
    with threadpool_limits(2, user_api="blas"):
        yield


def test_the_limit_holds_inside_and_is_lifted_after():
    assert blas_threads() == {2}
    with one_blas_thread():
        assert blas_threads() == {1}
        with one_blas_thread():
            assert blas_threads() == {1}
        assert blas_threads() == {1}
    assert blas_threads() == {2}


def test_the_limit_is_lifted_after_an_error():
    with pytest.raises(ZeroDivisionError, match="by zero"), one_blas_thread():
        _ = 1 / 0
    assert blas_threads() == {2}


def test_the_last_one_of_several_threads_lifts_the_limit():
    both_inside, first_left = threading.Barrier(2), threading.Event()
    seen = []

    def first() -> None:
        with one_blas_thread():
            both_inside.wait(timeout=30)
        first_left.set()

    def second() -> None:
        with one_blas_thread():
            both_inside.wait(timeout=30)
            assert first_left.wait(timeout=30)
            seen.append(blas_threads())

    threads = [threading.Thread(target=one) for one in (first, second)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(timeout=60)
    assert seen == [{1}]
    assert blas_threads() == {2}
