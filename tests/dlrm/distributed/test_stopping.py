"""SIGTERM within a training: it gets through to where it is told of, as often as it comes."""

import os
import signal
from contextlib import suppress

import pytest

from embpress.dlrm.distributed.stopping import Stopped, told_later, told_of_end


class Dies:
    def __del__(self):
        send()


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


def send():
    os.kill(os.getpid(), signal.SIGTERM)


def test_it_is_no_error_of_what_it_interrupts_and_comes_again_where_it_got_lost():
    before = signal.getsignal(signal.SIGTERM)
    with told_of_end() as end:
        with pytest.raises(Stopped), suppress(Exception):
            send()
        assert end.came
        with pytest.raises(Stopped):
            send()
    assert signal.getsignal(signal.SIGTERM) == before


def test_what_is_held_is_known_of():
    with told_of_end() as end:
        end.held = True
        send()
        assert end.came
