"""Argument checks: what they accept and return, and the rule, the value and the remedy in their errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sab_agents.checks import (
    above_zero,
    at_least,
    did_you_mean,
    float_between,
    fraction,
    int_between,
    known_arguments,
    nearest,
    one_of,
)


def test_valid_values_are_returned_as_python_numbers() -> None:
    assert at_least("Owner", "size", 3, 3) == 3
    for value in (2, np.int8(2), np.uint64(2)):
        assert type(int_between("Owner", "size", value, 1, 2)) is int
    for number in (1, 0.5, np.float32(0.5), np.int64(0)):
        assert type(float_between("Owner", "noise", number, 0.0, 1.0)) is float
    fraction("Owner", "gamma", 1)
    above_zero("Owner", "rate", 1e-9)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (0, ValueError, "Owner: size must be an int from 1 to 5, but is 0. Pass an int in this range."),
        (6, ValueError, "but is 6. Pass an int in this range."),
        (2.0, TypeError, r"but is 2.0 \(float\). Pass an int."),
        (True, TypeError, r"but is True \(bool\)"),
        (np.bool_(True), TypeError, r"but is np.True_ \(bool"),
        (np.array([2]), TypeError, "ndarray"),
    ],
)
def test_an_int_outside_its_range_raises(value: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        int_between("Owner", "size", value, 1, 5)


@pytest.mark.parametrize(
    ("value", "error"), [(1.1, ValueError), (float("nan"), ValueError), ("1", TypeError), (False, TypeError)]
)
def test_a_float_outside_its_range_raises(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"Owner: noise must be a number from 0\.0 to 1\.0, but is .* Pass a float"):
        float_between("Owner", "noise", value, 0.0, 1.0)


@pytest.mark.parametrize("value", [-0.1, 1.1, True, "1", None, float("nan")])
def test_a_value_that_is_not_a_fraction_raises(value: Any) -> None:
    with pytest.raises(ValueError, match="Owner: gamma must be a number from 0 to 1, but is"):
        fraction("Owner", "gamma", value)


@pytest.mark.parametrize("value", [0, -1.0, float("inf"), float("nan"), "1", True])
def test_a_value_that_is_not_above_zero_raises(value: Any) -> None:
    with pytest.raises(ValueError, match="Owner: rate must be a number above 0, but is"):
        above_zero("Owner", "rate", value)


def test_a_word_is_one_of_the_valid_ones() -> None:
    assert one_of("Owner", "mode", "class", ["class", "value"]) == "class"
    with pytest.raises(ValueError, match=r"must be one of class, value, but is 'clas'\. Did you mean 'class'\?"):
        one_of("Owner", "mode", "clas", ["class", "value"])
    with pytest.raises(ValueError, match=r"must be one of class, value, but is 3\.$"):
        one_of("Owner", "mode", 3, ["class", "value"])


def test_the_nearest_word_is_suggested_and_all_if_none_is_close() -> None:
    assert nearest("lenght", ["length", "noise"]) == "length"
    assert nearest("zzz", ["length", "noise"]) is None
    assert did_you_mean("lenght", ["length", "noise"]) == "Did you mean 'length'?"
    assert did_you_mean("zzz", ["length", "noise"]) == "Valid are: length, noise."


def test_an_unknown_argument_of_a_constructor_raises() -> None:
    class Owner:
        def __init__(self, length: int = 1) -> None:
            self.length = length

    class Plain:
        def __init__(self) -> None:
            pass

    known_arguments(Owner, {"length": 3})
    with pytest.raises(TypeError, match=r"Owner has no argument 'lenght'\. Did you mean 'length'\?"):
        known_arguments(Owner, {"lenght": 3})
    with pytest.raises(TypeError, match=r"Plain has no argument 'length'\. It takes none\."):
        known_arguments(Plain, {"length": 3})
