"""Items that another thread makes: the same ones, few at a time, its errors, and its end."""

import threading

import pytest

from embpress.dlrm.data.ahead import ahead


def makers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_the_same_items_in_another_thread_and_never_more_than_two():
    made, seen, threads = [], [], set()

    def items():
        for i in range(20):
            threads.add(threading.current_thread())
            made.append(i)
            assert len(made) - len(seen) <= 2
            yield i

    for item in ahead(items()):
        seen.append(item)
    assert seen == list(range(20))
    assert threading.current_thread() not in threads
    assert not makers()


def test_an_error_comes_in_its_place_and_the_thread_ends():
    def items():
        yield 1
        raise ValueError("row 7 is damaged")

    found = ahead(items())
    assert next(found) == 1
    with pytest.raises(ValueError, match="row 7 is damaged"):
        next(found)
    assert not makers()


@pytest.mark.parametrize("how", ["close", "raise", "throw"])
def test_who_gives_up_ends_the_thread_and_closes_what_it_reads(how):
    closed = []

    def items():
        try:
            yield from range(100)
        finally:
            closed.append(True)

    found = ahead(items())
    assert next(found) == 0
    assert makers()
    if how == "close":
        found.close()
    elif how == "throw":
        with pytest.raises(KeyboardInterrupt):
            found.throw(KeyboardInterrupt())
    else:
        with pytest.raises(RuntimeError):
            stop_at_two(found)
        del found
    assert closed == [True]
    assert not makers()


def stop_at_two(items):
    for item in items:
        if item == 2:
            raise RuntimeError
