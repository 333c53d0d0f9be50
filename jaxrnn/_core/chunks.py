"""How a run over time is cut into chunks, and what is stored of each."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax import lax

from jaxrnn._core.checks import check_choice, check_positive
from jaxrnn._core.numerics import is_real, widen

Store = Literal["activations", "states", "borders"]

# Rows (steps times batch) of a chunk: enough for efficient weight products, few enough
# for its coefficients to stay in the cache.
_CHUNK_ROWS = 1024


class Plan(NamedTuple):
    """Static choices of a run: the caller's, completed by `make_plan`."""

    chunk: int = 0  # steps of the backward pass linearised at once; 0: not chosen yet
    store: Store | None = None  # what every step stores for the backward pass
    states: bool = False  # whether to return every state, or its h alone
    ahead: bool = False  # whether the input map runs for all steps before the loop


def check_plan(chunk_size: Any, store: Any) -> None:
    """Raise unless the chunk size is None or a positive integer, and store a name."""
    check_positive("chunk_size", chunk_size, optional=True)
    check_choice("store", store, (*get_args(Store), None))


def make_plan(plan: Plan, store: Store, steps: int, rows: int) -> Plan:
    """Complete the caller's plan by the sizes, with even chunks where T allows it.

    Args:
        store: the default if the caller chose none.
        steps, rows: T and the rows of the batch.
    """
    # On a CPU, the input's product costs no more inside the loop than before it, and
    # saves the memory of [T, ..., G·H]; elsewhere, small products are expensive.
    plan = plan._replace(ahead=jax.default_backend() != "cpu")
    plan = plan._replace(store=plan.store or store)
    length = max(1, steps)
    if plan.chunk:
        return plan._replace(chunk=min(plan.chunk, length))
    fits = max(1, _CHUNK_ROWS // max(1, rows))
    if length <= fits:
        return plan._replace(chunk=length)
    even = (c for c in range(fits, fits // 2, -1) if length % c == 0)
    return plan._replace(chunk=next(even, fits))


def scan_steps(
    body: Callable[[Any, Any], tuple[Any, Any]],
    carry: Any,
    steps: Any,
    *,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """`lax.scan` that stacks 16-bit outputs in float32 on a CPU.

    XLA's CPU backend would otherwise convert the whole stack and back at every step.
    """
    leaves = jax.tree.leaves((carry, steps))
    narrow = any(a.dtype in (jnp.bfloat16, jnp.float16) for a in leaves)
    if jax.default_backend() != "cpu" or not narrow:
        return lax.scan(body, carry, steps, reverse=reverse)
    dtypes = None

    def wide(carry, step):
        nonlocal dtypes
        carry, ys = body(carry, step)
        dtypes = jax.tree.map(lambda y: y.dtype, ys)
        return carry, jax.tree.map(lambda y: widen(y) if is_real(y) else y, ys)

    carry, ys = lax.scan(wide, carry, steps, reverse=reverse)
    return carry, jax.tree.map(lambda y, dtype: y.astype(dtype), ys, dtypes)


def scan_chunks(
    body: Callable[[Any, Any, Any], tuple[Any, Any]],
    carry: Any,
    steps: Any,
    chunk: int,
    *,
    starts: Any = None,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """Scan `body(carry, start, chunk_of_steps) -> (carry, ys)` over chunks of time.

    `steps` and ys have leading axis T, which the chunk need not divide: the last chunk
    is then shorter. `starts`, if given, has one entry a chunk on its leading axis.
    """
    length = jax.tree.leaves(steps)[0].shape[0]
    full, rest = divmod(length, chunk)

    def run_full(carry):
        folded = jax.tree.map(
            lambda a: a[: full * chunk].reshape(full, chunk, *a.shape[1:]), steps
        )
        inputs = (jax.tree.map(lambda a: a[:full], starts), folded)
        if full == 1:
            return body(carry, *jax.tree.map(lambda a: a[0], inputs))
        carry, ys = scan_steps(lambda c, i: body(c, *i), carry, inputs, reverse=reverse)
        return carry, jax.tree.map(
            lambda a: a.reshape(a.shape[0] * a.shape[1], *a.shape[2:]), ys
        )

    def run_rest(carry):
        tail = jax.tree.map(lambda a: a[full * chunk :], steps)
        return body(carry, jax.tree.map(lambda a: a[-1], starts), tail)

    # An empty sequence is one empty chunk, so that the outputs get their shapes.
    runs = [run_full] * (full > 0) + [run_rest] * (rest > 0 or full == 0)
    parts = []
    for run in reversed(runs) if reverse else runs:
        carry, ys = run(carry)
        parts.append(ys)
    if len(parts) == 1:
        return carry, parts[0]
    first, last = reversed(parts) if reverse else parts
    return carry, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, last)
