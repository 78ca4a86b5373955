"""By default a test of many parameters meets every two of their values; every case is run by default or is slow."""

from __future__ import annotations

import random
from itertools import combinations, product

import pytest

from tests.selection import covering

pytest_plugins = "pytester"


@pytest.mark.parametrize("seed", range(5))
def test_every_two_values_meet(seed: int) -> None:
    choose = random.Random(seed)
    sizes = [choose.randint(1, 6) for _ in range(choose.randint(1, 4))]
    whole = [dict(zip("abcd", values, strict=False)) for values in product(*map(range, sizes))]
    cases = choose.sample(whole, choose.randint(1, len(whole)))  # not each combination is there
    chosen = covering(cases)
    assert chosen == sorted(set(chosen))
    for names in combinations(cases[0], min(2, len(sizes))):
        met = {tuple(case[name] for name in names) for case in cases}
        assert {tuple(cases[place][name] for name in names) for place in chosen} == met


def test_few_cases_of_many_are_needed() -> None:
    cases = [dict(zip("abcd", values, strict=True)) for values in product(range(3), repeat=4)]
    assert len(covering(cases)) < 15  # of 81; nine is the least there can be


def test_what_is_left_out_is_slow(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("from tests.conftest import pytest_collection_modifyitems")
    pytester.makeini("[pytest]\nmarkers =\n slow:\n pairs:")
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.pairs
        @pytest.mark.parametrize("a", "xyz")
        @pytest.mark.parametrize("b", range(3))
        @pytest.mark.parametrize("c", range(3))
        def test_product(a, b, c): pass
        def test_other(): pass
        """
    )
    default = pytester.runpytest_inprocess("-m", "not slow").parseoutcomes()
    rest = pytester.runpytest_inprocess("-m", "slow").parseoutcomes()
    assert default["passed"] + rest["passed"] == 28
    assert 10 <= default["passed"] < 15
