"""SIGTERM as an error: at once, or once what must not be interrupted is done."""

import signal

import pytest

from embpress.dlrm.distributed.stopping import Stopped, told_later, told_of_end


class Dies:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)


def put_off(done):
    with told_of_end():
        with told_later():
            one = Dies()
            del one  # an error in it would go no further
            done.append("the rest of the block")
        done.append("what follows it")


def test_it_comes_when_the_block_ends_that_puts_it_off():
    done = []
    with pytest.raises(Stopped):
        put_off(done)
    assert done == ["the rest of the block"]


def test_once_and_only_where_it_has_come():
    with told_of_end():
        with told_later():
            pass
        with pytest.raises(Stopped):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)  # the second is of no account
        with told_later():
            signal.raise_signal(signal.SIGTERM)
