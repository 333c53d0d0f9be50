"""A compiled training step and its state, on one device or data-parallel on a mesh."""

from collections.abc import Callable
from functools import partial
from numbers import Integral
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxrnn._core.checks import (
    as_arrays,
    check_choice,
    read_alike,
)
from jaxrnn._core.mesh import check_divides, check_mesh, spec_of, vary
from jaxrnn._core.numerics import global_norm, widen
from jaxrnn._core.trees import describe
from jaxrnn._core.updates import (
    check_optimizer,
    read_flush,
    read_leaves,
    read_weight,
    rises,
    states_in,
)
from jaxrnn.optim import AccumulateState, ClipState


class TrainState(NamedTuple):
    """Everything that training carries from step to step.

    step: the number of steps taken.
    params: the trained parameters.
    opt_state: the optimiser's state.
    state: the recurrent state that truncated BPTT carries from one window to the next,
        or None.
    """

    step: Any
    params: Any
    opt_state: Any
    state: Any = None


class Outcome(NamedTuple):
    """Auxiliary output of a loss.

    state: the recurrent state to carry to the next window, like the one that came in.
    weight: the number of terms that the error averages (rows, tokens); with it the mean
        over devices, and over accumulated windows, is that of the whole.
    aux: a pytree of floating arrays to report, such as an accuracy. On a mesh it is
        averaged or summed over devices, like the error.
    """

    state: Any = None
    weight: Any = 1.0
    aux: Any = None


class Metrics(NamedTuple):
    """The metrics of one training step; all but `aux` are scalars.

    error: of this batch, before the update.
    norm: ‖gradient‖ before clipping: of the newest update's gradient if the optimiser
        clips (with `accumulate`, the window's mean), else of this step's.
    clipped: whether this step's update was clipped; False without the clip of
        `jaxrnn.optim`.
    skipped: whether `skip_nonfinite` ignored this step's gradient; False without the
        accumulation of `jaxrnn.optim`.
    aux: as the loss returns it.
    """

    error: Array
    norm: Array
    clipped: Array
    skipped: Array
    aux: Any


class _Found(NamedTuple):
    """The loss and its gradient for one batch."""

    error: Array
    grads: Any
    weight: Array
    aux: Any
    state: Any


def init_train_state(
    params: Any, optimizer: optax.GradientTransformation, state: Any = None
) -> TrainState:
    """Make the state before the first step.

    Arrays are copied, since `train_step` donates them.

    Args:
        params: the parameters, a pytree of floating arrays [...].
        optimizer: any Optax optimiser.
        state: the recurrent state to carry between windows, parts [B, H], or None.
    Returns: a `TrainState`.
    Raises:  TypeError unless `optimizer` is an Optax optimiser, params are floating
             arrays and the state's parts are arrays.
    """
    check_optimizer(optimizer)
    params, state = as_arrays("params", params, floats=True), as_arrays("state", state)
    start = TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), state)
    # Not of a weak type, which the new parameters are not, so that it compiles once.
    return jax.tree.map(lambda a: jnp.array(a, a.dtype), start)


def train_step(
    loss: Callable[..., tuple[Array, Outcome]],
    optimizer: optax.GradientTransformation,
    mesh: Mesh | None = None,
    *,
    batch_spec: Any = None,
    reduce: Literal["mean", "sum"] = "mean",
    seed: int | None = None,
) -> Callable[..., tuple[TrainState, Metrics]]:
    """Compile `(train_state, batch, *, flush=False) -> (train_state, Metrics)`.

    The train state is donated: its buffers are reused, so keep only the new one. A
    skipped step keeps the carried state of all rows as it was before the step, as if
    the bad window had not been there.

    Args:
        loss: `loss(params, state, batch) -> (error, Outcome(state, weight, aux))`, the
            error a mean over `weight` terms. An error that is a sum needs
            `reduce="sum"`: otherwise it is divided by the number of devices. With
            `seed`, `loss(params, state, batch, key)`.
        optimizer: any Optax optimiser; those of `optim` also get weight and flush.
        mesh: a mesh of one axis. Params are replicated and the batch is split over it;
            gradients are averaged by weight once per step, so that the result equals
            that of one device up to rounding.
        batch_spec: a PartitionSpec, or a pytree of them, for the batch. By default a
            leaf [T, B, ...] is split on axis 1, and a leaf [B] on axis 0. The parts of
            the recurrent state [B, H] are split on axis 0.
        reduce: "mean" averages over devices by weight; "sum" adds their errors and
            gradients and ignores `weight`.
        seed: of the loss's key, which is folded from it and the step's number, and on a
            mesh from the device's index, so that devices draw different noise.
    Returns: the compiled step.
    Edge:    a batch of weight 0 has error 0 and gradient 0, even if the loss divides by
             zero, on one device and on a mesh.
    Raises:  TypeError or ValueError for an invalid loss, optimizer, mesh, reduce or
             seed; at trace time, if the batch or the state does not divide by the mesh,
             for a train state that was donated to an earlier step, a batch that is not
             numeric, a flush without a window, or a loss that returns the wrong things.
    """
    check_optimizer(optimizer)
    check_choice("reduce", reduce, ("mean", "sum"))
    if not callable(loss):
        got = type(loss).__name__
        raise TypeError(f"loss: expected a function (params, state, batch), got {got}")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, Integral)):
        raise TypeError(f"seed: expected an integer or None, got {seed!r}")
    optimizer = optax.with_extra_args_support(optimizer)
    if mesh is not None:
        check_mesh(mesh)
        mesh = Mesh(mesh.devices, mesh.axis_names)  # `jax.make_mesh` has explicit axes
    measure = partial(_gradients, loss, reduce)
    run = measure if mesh is None else partial(_on_mesh, measure, reduce, mesh)

    @partial(jax.jit, donate_argnums=0)
    def compiled(train_state, batch, flush):
        count, params, before, state = train_state
        key = () if seed is None else (jax.random.fold_in(jax.random.key(seed), count),)
        spec = None if mesh is None else spec_of(batch, batch_spec, mesh)
        found = run(params, state, batch, key, spec)
        updates, after = optimizer.update(
            found.grads, before, params, weight=found.weight, flush=flush
        )
        skipped = rises(AccumulateState, "skipped", before, after)
        kept = [c.norm for c in states_in(after, ClipState)]
        metrics = Metrics(
            error=found.error,
            norm=kept[0] if kept else global_norm(found.grads),
            clipped=rises(ClipState, "clipped", before, after),
            skipped=skipped,
            aux=found.aux,
        )
        state = jax.tree.map(partial(jnp.where, skipped), state, found.state)
        params = optax.apply_updates(params, updates)
        return TrainState(count + 1, params, after, state), metrics

    def step(train_state, batch, *, flush=False):
        train_state = _read_train_state(train_state)
        _check_flush(flush, train_state)
        batch = read_leaves("batch", batch)
        if mesh is not None:  # placed alike at every call: one compilation
            check_divides("batch", batch, spec_of(batch, batch_spec, mesh), mesh)
            train_state = _place(train_state, mesh)
        return compiled(train_state, batch, read_flush(flush))

    return step


def _gradients(loss, reduce, params, state, batch, key, spec=None) -> _Found:
    """The loss and its gradient on one device."""
    del spec

    def checked(params):
        out = loss(params, state, batch, *key)
        pair = isinstance(out, tuple) and len(out) == 2
        if not pair or type(out[1]) is not Outcome:
            got = f"(error, {describe(out[1])})" if pair else describe(out)
            raise TypeError(f"loss: expected (error, Outcome(...)), got {got}")
        error = jnp.asarray(out[0])
        if error.shape or not jnp.issubdtype(error.dtype, jnp.floating):
            raise TypeError(
                "loss: expected an error that is one floating number, got "
                f"{error.dtype}{list(error.shape)}"
            )
        return error, out[1]

    (error, outcome), grads = jax.value_and_grad(checked, has_aux=True)(params)
    new = jax.tree.map(jnp.asarray, outcome.state)
    new = read_alike("Outcome.state", new, state)
    aux = jax.tree.map(jnp.asarray, outcome.aux)
    for path, a in jax.tree_util.tree_leaves_with_path(aux):
        if not jnp.issubdtype(a.dtype, jnp.floating):
            name = jax.tree_util.keystr(path)
            raise TypeError(f"Outcome.aux{name}: expected floating, got {a.dtype}")
    if reduce == "sum":
        return _Found(error, grads, jnp.ones((), jnp.float32), aux, new)
    weight = read_weight(outcome.weight)
    # Without weight there is no mean, even if the loss computed 0/0.
    error, grads, aux = jax.tree.map(
        lambda a: jnp.where(weight == 0, jnp.zeros_like(a), a), (error, grads, aux)
    )
    return _Found(error, grads, weight, aux, new)


def _on_mesh(measure, reduce, mesh, params, state, batch, key, spec) -> _Found:
    """The same over the devices of a mesh, with one sum over devices."""
    (axis,) = mesh.axis_names

    def on_one_device(params, state, batch, key):
        # Varying parameters have local gradients: one sum at the end, none inside.
        params = jax.tree.map(partial(vary, axis=axis), params)
        key = jax.tree.map(lambda k: jax.random.fold_in(k, lax.axis_index(axis)), key)
        found = measure(params, state, batch, key)
        weight = vary(found.weight, axis)
        total = lax.psum(weight, axis)
        some = jnp.where(total == 0, 1, total)

        def together(a):
            part = widen(vary(a, axis))
            if reduce == "mean":
                part = part * (weight.astype(part.dtype) / some.astype(part.dtype))
            return lax.psum(part, axis).astype(a.dtype)

        both: Any = found.error, found.grads, found.aux
        error, grads, aux = jax.tree.map(together, both)
        weight = total if reduce == "mean" else jnp.ones((), jnp.float32)
        return _Found(error, grads, weight, aux, found.state)

    whole: Any = PartitionSpec()
    rows = PartitionSpec(axis)
    return jax.shard_map(
        on_one_device,
        mesh=mesh,
        in_specs=(whole, rows, spec, whole),
        out_specs=_Found(whole, whole, whole, whole, rows),
    )(params, state, batch, key)


def _read_train_state(train_state: Any) -> TrainState:
    """Return the train state, or raise if it is not one or was donated."""
    if not isinstance(train_state, TrainState):
        raise TypeError(
            "train_state: expected a TrainState, as init_train_state gives it, got "
            f"{describe(train_state)}"
        )
    return read_leaves("train_state", train_state)


def _check_flush(flush: Any, train_state: TrainState) -> None:
    """Raise if flush is known to be True and there is no window to close."""
    known = flush is not False and not isinstance(flush, Tracer)
    if known and read_flush(flush) and not states_in(train_state, AccumulateState):
        raise ValueError(
            "flush: expected False, since the optimizer is not one of "
            "optim.accumulate(...) or optim.recurrent(...), got True"
        )


def _place(train_state: TrainState, mesh: Mesh) -> TrainState:
    """Replicate over the mesh; split the rows of the recurrent state."""
    whole = NamedSharding(mesh, PartitionSpec())
    rows = NamedSharding(mesh, PartitionSpec(*mesh.axis_names))
    check_divides("state", train_state.state, rows.spec, mesh)
    return jax.device_put(train_state, TrainState(whole, whole, whole, rows))
