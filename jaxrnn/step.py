"""The folded model: one transition of a cell or a layer."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.cell import Cell, Layer
from jaxrnn.checks import check_alike, check_step
from jaxrnn.forward import input_map, recurrent_map
from jaxrnn.marks import Marks
from jaxrnn.run import Options, Start, run


def step(cell: Cell | Layer, params: Any, state: Any, x: Array) -> Any:
    """The folded model: one transition.

    Math:    (56) s_t = gate(x_t W_x + b, h_{t-1} W_s + b_s, s_{t-1})
    Shapes:  state: parts [..., H]; x [..., D] -> state: parts [..., H].
    Args:
        cell: a `Cell`, or a layer from `jaxrnn.layers` that runs forward in time.
    Raises:  ValueError or TypeError, at trace time, for a wrong feature size, dtype or
             state, or a layer that runs backward in time, which has no single step.
    """
    if isinstance(cell, Layer):
        if not hasattr(x, "shape") or not x.shape:
            raise ValueError(f"x: expected an array [..., D], got {x!r:.60}")
        like = jax.eval_shape(lambda: cell.initial_state(params, x.shape[:-1]))
        check_alike("state", state, like)
        return transition(cell, params, state, x, gradient="autodiff")
    check_step(cell, params, state, x)
    r = recurrent_map(params, state[0])
    return cell.gate(params.own, input_map(params, x), r, state)[0]


def transition(
    layer: Cell | Layer,
    params: Any,
    state: Any,
    x: Array,
    marks: Marks | None = None,
    restart: Any = None,
    *,
    gradient: str = "manual",
) -> Any:
    """`step` with its derivative by hand, as in `bptt`, and with one step's marks.

    Args:
        marks: of this step, arrays [...].
        restart: what a reset puts in place.
        gradient: "manual", which reverse mode takes, or "autodiff", for both modes.
    """
    return emit(layer, params, state, x, marks, restart, gradient=gradient)[1]


def emit(
    layer: Cell | Layer,
    params: Any,
    state: Any,
    x: Array,
    marks: Marks | None = None,
    restart: Any = None,
    *,
    gradient: str = "manual",
) -> tuple[Array, Any]:
    """`transition`, and what the layer puts out at that step: (h [..., H], state)."""
    starts = jax.tree.map(
        lambda s, r: Start(s, r, None), state, state if restart is None else restart
    )
    one = jax.tree.map(lambda m: m[None], marks or Marks())
    options = Options(gradient, 1, "states", False, False, one_way=True)
    hs, state = run(layer, options, params, x[None], one, starts, None)
    return hs[0], state


def pack(state: Any) -> Array:
    """A state's parts side by side: [..., H] each -> [..., N]."""
    return jnp.concatenate(jax.tree.leaves(state), axis=-1)


def unpack(vector: Array, like: Any) -> Any:
    """`pack`, undone: a state with the parts of `like`, whatever its leading axes."""
    leaves, tree = jax.tree.flatten(like)
    ends = [sum(a.shape[-1] for a in leaves[: i + 1]) for i in range(len(leaves) - 1)]
    return jax.tree.unflatten(tree, jnp.split(vector, ends, axis=-1))
