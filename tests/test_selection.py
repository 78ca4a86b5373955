"""By default a test of many parameters meets every two of their values; every case is run by default or is slow."""

from __future__ import annotations

import random
from itertools import combinations, product

import pytest

from tests.selection import covering

pytest_plugins = "pytester"


@pytest.mark.parametrize("together", [1, 2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_so_many_values_meet(seed: int, together: int) -> None:
    choose = random.Random(seed)
    sizes = [choose.randint(1, 6) for _ in range(choose.randint(1, 4))]
    whole = [dict(zip("abcd", values, strict=False)) for values in product(*map(range, sizes))]
    cases = choose.sample(whole, choose.randint(1, len(whole)))  # not each combination is there
    chosen = covering(cases, together)
    assert chosen == sorted(set(chosen))
    for names in combinations(cases[0], min(together, len(sizes))):
        met = {tuple(case[name] for name in names) for case in cases}
        assert {tuple(cases[place][name] for name in names) for place in chosen} == met


def test_few_cases_of_many_are_needed() -> None:
    cases = [dict(zip("abcd", values, strict=True)) for values in product(range(3), repeat=4)]
    assert len(covering(cases, 2)) < 15  # of 81; nine is the least there can be
    assert len(covering(cases, 1)) == 3


def test_what_is_left_out_is_slow(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("from tests.conftest import pytest_collection_modifyitems")
    pytester.makeini("[pytest]\nmarkers =\n slow:\n pairs:\n each:")
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.pairs
        @pytest.mark.parametrize("a", "xyz")
        @pytest.mark.parametrize("b", range(3))
        @pytest.mark.parametrize("c", range(3))
        def test_product(a, b, c): pass
        @pytest.mark.each
        @pytest.mark.parametrize("a", "wxyz")
        @pytest.mark.parametrize("b", range(3))
        def test_smaller(a, b): pass
        def test_other(): pass
        """
    )
    default = pytester.runpytest_inprocess("-m", "not slow").parseoutcomes()
    rest = pytester.runpytest_inprocess("-m", "slow").parseoutcomes()
    assert default["passed"] + rest["passed"] == 28 + 12
    assert 10 + 4 <= default["passed"] < 15 + 4
