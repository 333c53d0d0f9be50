"""The other tests' comparisons catch what they should."""

import jax
import numpy as np
import pytest
from table import CELLS, MORE_CELLS, assert_alike, draw, relative_errors

ONES = {"a": np.ones(4), "b": np.ones((2, 2))}


def test_an_error_is_relative_to_each_leafs_norm():
    other = {"a": np.full(4, 1.5), "b": np.ones((2, 2))}
    assert relative_errors(other, ONES) == {"a": 0.5, "b": 0.0}
    assert relative_errors(ONES["a"], np.zeros(4)) == {"": np.inf}
    assert_alike(other, ONES, 0.5)
    with pytest.raises(AssertionError):
        assert_alike(other, ONES, 0.4)


def test_nan_is_like_nothing():
    with pytest.raises(AssertionError):
        assert_alike(np.full(4, np.nan), np.ones(4), 1e3)


def test_another_structure_or_shape_is_no_control_that_fails():
    with pytest.raises(TypeError, match="expected the structure"):
        assert_alike((ONES["a"],), ONES["a"], 1e3)
    with pytest.raises(TypeError, match="expected the structure"):
        assert_alike({"a": ONES["a"], "b": None}, ONES, 1e3)
    with pytest.raises(ValueError, match=r"b: expected shape \(2, 2\), got \(4,\)"):
        assert_alike(ONES | {"b": np.ones(4)}, ONES, 1e3)


@pytest.mark.parametrize("name", [*CELLS, *MORE_CELLS])
def test_no_number_that_is_drawn_is_zero(name):
    case = draw((CELLS | MORE_CELLS)[name], units=4)
    assert all(np.all(leaf) for leaf in jax.tree.leaves(case))
