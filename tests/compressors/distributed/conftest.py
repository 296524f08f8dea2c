"""One pair of processes for all tests of this folder."""

import pytest
import two_ranks


@pytest.fixture(scope="session")
def ranks(tmp_path_factory):
    """Runs a function of the test's file on two ranks of a gloo group: what it returned on each."""
    if not two_ranks.available():
        pytest.skip("torch has no gloo here")
    pair = two_ranks.TwoRanks(tmp_path_factory.mktemp("ranks"))
    yield pair
    pair.end()
