"""Letters of methods that cannot be told apart."""

import random

import pytest

from embpress.reports.uncertainty.sets import alike_sets, letters


@pytest.mark.parametrize("count", [1, 2, 3, 8, 20])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_two_share_a_letter_exactly_if_they_cannot_be_told_apart(count, share):
    for seed in range(20):
        rng = random.Random(seed)
        apart = {(i, j): rng.random() < share for i in range(count) for j in range(i + 1, count)}
        sets = alike_sets(count, lambda i, j, apart=apart: apart[i, j])
        for (i, j), told in apart.items():
            assert any(i in one and j in one for one in sets) is not told
        assert {i for one in sets for i in one} == set(range(count))
        assert len({tuple(one) for one in sets}) == len(sets)


def test_a_usual_table_of_letters():
    means = [0.75, 0.748, 0.745, 0.74]
    sets = alike_sets(4, lambda i, j: abs(means[i] - means[j]) > 0.004)
    assert letters([(4, sets)]) == [["a", "ab", "b", "c"]]
    assert letters([(1, [[0]]), (2, [[0, 1]]), (2, [[0], [1]])]) == [["a"], ["b", "b"], ["c", "d"]]


def test_past_the_alphabet_there_are_numbers():
    sets = [[k, k + 1] for k in range(27)]
    named = letters([(28, sets)])[0]
    assert (named[0], named[1], named[27]) == ("1", "1, 2", "27")
