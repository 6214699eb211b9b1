"""Python's search for cycles: off while records are made, and on again after the last of them."""

import gc
import threading

import pytest

from h5dask.garbage import unsearched


@pytest.fixture(autouse=True)
def searched():
    gc.enable()
    yield
    gc.enable()


def test_it_is_off_inside_and_on_after():
    with unsearched():
        assert not gc.isenabled()
        with unsearched():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_is_on_again_after_an_error():
    with pytest.raises(ZeroDivisionError, match="by zero"), unsearched():
        _ = 1 / 0
    assert gc.isenabled()


def test_who_has_turned_it_off_finds_it_off():
    gc.disable()
    with unsearched():
        pass
    assert not gc.isenabled()


def test_the_last_one_of_several_threads_turns_it_on():
    both_inside, first_left = threading.Barrier(2), threading.Event()
    seen = []

    def first():
        with unsearched():
            both_inside.wait(10)
        first_left.set()

    def second():
        with unsearched():
            both_inside.wait(10)
            first_left.wait(10)
            seen.append(gc.isenabled())

    threads = [threading.Thread(target=work) for work in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert seen == [False]
    assert gc.isenabled()
