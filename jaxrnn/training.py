"""A compiled training step and its state; a mesh splits the batch over devices."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxrnn._core.numerics import sum_dtype, widen


class TrainState(NamedTuple):
    """What training carries from step to step.

    `state` is the recurrent state that truncated BPTT takes from one window of time to
    the next, or None.
    """

    step: Any
    params: Any
    optimizer: Any
    state: Any = None


class Outcome(NamedTuple):
    """What a loss says beside its error: the state to carry, and its weight.

    `weight` is how many terms the error is a mean over (rows, tokens); it makes the
    mean over devices, and over accumulated windows, that of the whole.
    """

    state: Any = None
    weight: Any = 1.0


def init_train_state(
    params: Any, optimizer: optax.GradientTransformation, state: Any = None
) -> TrainState:
    """The state before the first step. It copies, since `train_step` donates."""
    start = TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), state)
    return jax.tree.map(jnp.copy, start)


def train_step(
    loss: Callable[[Any, Any, Any], tuple[Array, Outcome]],
    optimizer: optax.GradientTransformation,
    mesh: Mesh | None = None,
    *,
    batch_spec: Any = None,
) -> Callable[..., tuple[TrainState, Array]]:
    """Compile `(train_state, batch, *, flush=False) -> (train_state, error)`.

    The train state is donated: its buffers are used again, so keep only the new one.

    Args:
        loss: `loss(params, state, batch) -> (error, Outcome(state, weight))`, the error
            a mean over `weight` terms.
        optimizer: any Optax optimiser; one of `optim` is given weight and flush too.
        mesh: a mesh of one axis. Params are replicated and the batch is split over it;
            the devices meet once a step, to average their gradients by weight, so that
            the result is one device's to rounding.
        batch_spec: a PartitionSpec, or a pytree of them, for the batch. By default a
            leaf is split on axis 1, as [T, B, ...] is, and a leaf of one axis, [B], on
            that. The parts of the recurrent state [B, H] are split on axis 0.
    Raises:  ValueError, at trace time, if the mesh has more than one axis or the
             batch does not divide by it.
    """
    optimizer = optax.with_extra_args_support(optimizer)
    placement = None
    if mesh is not None:
        if len(mesh.axis_names) != 1:
            raise ValueError(f"mesh: expected one axis, got {mesh.axis_names}")
        mesh = Mesh(mesh.devices, mesh.axis_names)  # `jax.make_mesh` has explicit axes
        whole = NamedSharding(mesh, PartitionSpec())
        rows = NamedSharding(mesh, PartitionSpec(*mesh.axis_names))
        placement = TrainState(whole, whole, whole, rows)

    def gradients(params, state, batch):
        (error, outcome), grads = jax.value_and_grad(loss, has_aux=True)(
            params, state, batch
        )
        weight = jnp.asarray(outcome.weight, jnp.float32)
        return error, grads, weight, outcome.state

    def gradients_on_mesh(mesh, params, state, batch):
        (axis,) = mesh.axis_names
        spec = _time_major_spec(batch, axis) if batch_spec is None else batch_spec
        _check_divides(batch, spec, mesh.size)

        def on_one_device(params, state, batch):
            # Varying parameters have local gradients: one sum at the end, none inside.
            params = jax.tree.map(partial(_vary, axis=axis), params)
            error, grads, weight, state = gradients(params, state, batch)
            weight = _vary(weight, axis)
            total = lax.psum(weight, axis)

            def mean(a):
                wide = sum_dtype(a.dtype)
                share = weight.astype(wide) / total.astype(wide)
                # A device without weight has no mean to add, whatever 0/0 it made.
                part = jnp.where(weight == 0, 0, widen(a) * share)
                return lax.psum(part, axis).astype(a.dtype)

            return mean(error), jax.tree.map(mean, grads), total, state

        whole, rows = PartitionSpec(), PartitionSpec(axis)
        return jax.shard_map(
            on_one_device,
            mesh=mesh,
            in_specs=(whole, rows, spec),
            out_specs=(whole, whole, whole, rows),
        )(params, state, batch)

    run = gradients if mesh is None else partial(gradients_on_mesh, mesh)

    @partial(jax.jit, donate_argnums=0)
    def compiled(train_state, batch, flush):
        error, grads, weight, state = run(train_state.params, train_state.state, batch)
        updates, opt = optimizer.update(
            grads,
            train_state.optimizer,
            train_state.params,
            weight=weight,
            flush=flush,
        )
        params = optax.apply_updates(train_state.params, updates)
        return TrainState(train_state.step + 1, params, opt, state), error

    def step(train_state, batch, *, flush=False):
        if placement is not None:  # placed alike at every call: one compilation
            train_state = jax.device_put(train_state, placement)
        return compiled(train_state, batch, flush)

    return step


def _vary(a: Array, axis: str) -> Array:
    if axis in jax.typeof(a).manual_axis_type.varying:
        return a
    return lax.pcast(a, axis, to="varying")


def _time_major_spec(batch: Any, axis: str) -> Any:
    return jax.tree.map(
        lambda a: PartitionSpec(*[None, axis][-a.ndim :] if a.ndim else ()), batch
    )


def _check_divides(batch: Any, spec: Any, devices: int) -> None:
    specs = jax.tree.broadcast(spec, batch)
    for a, s in zip(jax.tree.leaves(batch), jax.tree.leaves(specs), strict=True):
        split = next((i for i, name in enumerate(s) if name is not None), None)
        if split is not None and a.shape[split] % devices:
            raise ValueError(
                f"batch: expected axis {split} of shape {a.shape} to divide by the "
                f"mesh's {devices} devices"
            )
