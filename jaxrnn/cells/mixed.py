"""Mixed precision: products in few bits, everything else in the parameters' dtype."""

from typing import Any

import jax.numpy as jnp

from jaxrnn._core.by_value import by_value
from jaxrnn._core.checks import check_cell
from jaxrnn.cell import Cell, Its


@by_value
def mixed_precision(cell: Cell[Its], compute_dtype: Any = jnp.bfloat16) -> Cell[Its]:
    """A cell whose two maps multiply in `compute_dtype`, with float32 parameters.

    The operands of x W_x and h W_s, and of their products in the backward pass, are
    rounded to `compute_dtype` and summed in float32. Parameters, states (an LSTM's
    memory), gates, adjoints and gradients stay in the parameters' own dtype: a weight's
    gradient is never rounded to `compute_dtype`, as a share of autodiff's is at every
    step. Products inside a gate map are not changed.

    Args:
        cell: the cell; its params and state stay as they are.
        compute_dtype: bfloat16, float16 or float32.
    Returns: a `Cell`.
    Raises:  TypeError if `cell` is not a cell; ValueError for another dtype.
    Source:  Micikevicius et al. (2018), arXiv 1710.03740, §3, with float32 sums.
    """
    check_cell(cell)
    allowed = [jnp.dtype(d) for d in ("bfloat16", "float16", "float32")]
    try:
        dtype = jnp.dtype(compute_dtype)
    except TypeError:
        dtype = None
    if compute_dtype is None or dtype not in allowed:
        raise ValueError(
            "compute_dtype: expected bfloat16, float16 or float32, got "
            f"{compute_dtype!r}"
        )
    return cell._replace(compute_dtype=dtype)
