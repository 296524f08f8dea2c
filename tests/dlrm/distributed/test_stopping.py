"""SIGTERM within a training: it gets through to where it is told of, as often as it comes."""

import os
import signal
from contextlib import suppress

import pytest

from embpress.dlrm.distributed.stopping import Stopped, told_of_end


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
