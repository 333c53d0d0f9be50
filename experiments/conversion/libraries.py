"""Other libraries' networks on random weights of their own, and how each is read.

One function a library: `library(kind, sizes, bias, dtype) -> Other`, or None where it
has no such network. A further one is added to `LIBRARIES`.
"""

import os
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.conversion.jax_peers import equinox, flax_linen, flax_nnx, haiku
from experiments.conversion.onnx_peer import onnx
from experiments.conversion.sides import Other, Results, Sizes, by_jax, random_like
from jaxrnn import convert


def keras(kind: str, sizes: Sizes, bias: bool, dtype: Any) -> Other | None:
    """Keras's layers on its JAX backend, in float32; lengths are its mask."""
    os.environ["KERAS_BACKEND"] = "jax"  # read once, when keras is first imported
    import keras  # pyright: ignore[reportMissingImports]

    both = kind.startswith("bidirectional")
    layers = {
        "elman": keras.layers.SimpleRNN,
        "lstm": keras.layers.LSTM,
        "bidirectional lstm": keras.layers.LSTM,
        "gru": keras.layers.GRU,
        "gru, reset before": partial(keras.layers.GRU, reset_after=False),
    }
    # keras 3.15.1 takes a float64's tanh in float32 on JAX: nothing to compare there
    if kind not in layers or dtype != "float32":
        return None
    options = {"use_bias": bias, "dtype": np.dtype(dtype).name}
    zeros = dict.fromkeys(("kernel_initializer", "recurrent_initializer"), "zeros")
    layer = layers[kind](
        sizes.h, return_sequences=True, return_state=True, **options, **zeros
    )
    if both:
        layer = keras.layers.Bidirectional(layer, dtype=options["dtype"])
    layer.build((None, None, sizes.d))
    assert [v.path for v in layer.weights] == [
        v.path for v in layer.trainable_variables
    ]

    def run(weights, xs, state, lengths):
        rest = [v.value for v in layer.non_trainable_variables]
        mask = None if lengths is None else jnp.arange(len(xs))[None] < lengths[:, None]
        with jax.numpy_rank_promotion("allow"):  # it adds its biases so
            found: Any = layer.stateless_call(
                weights,
                rest,
                jnp.swapaxes(xs, 0, 1),
                initial_state=list(state),
                mask=mask,
            )
        hs, *final = found[0]
        return jnp.swapaxes(hs, 0, 1), tuple(final)

    ours = kind.split(",")[0].split()[-1]
    read = partial(
        convert.from_keras,
        kind=ours,
        reset_after="before" not in kind,
        bidirectional=both,
    )
    weights = random_like(layer.get_weights(), dtype)
    return Other(weights, read, partial(convert.to_keras, kind=ours), by_jax(run))


def torch(kind: str, sizes: Sizes, bias: bool, dtype: Any) -> Other | None:
    """`torch.nn` on the CPU; lengths are a packed sequence."""
    import torch  # pyright: ignore[reportMissingImports]

    made = {"elman": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
    cell = kind.split()[-1]
    both = kind.startswith("bidirectional")
    if cell not in made or kind == "optimized lstm":
        return None
    layer = made[cell](*sizes, bias=bias, bidirectional=both).to(
        getattr(torch, np.dtype(dtype).name)
    )
    shapes = {name: p.detach().numpy() for name, p in layer.state_dict().items()}

    def results(weights, sample):
        def tensors(tree):
            make = lambda a: torch.tensor(np.asarray(a), requires_grad=True)  # noqa: E731
            return jax.tree.map(make, tree)

        own, xs, state = tensors((weights, sample.xs, sample.state))
        # torch: [directions, B, H] of h, and of c
        count = len(state) // (1 + both)
        start = [torch.stack(state[k::count]) for k in range(count)]
        start = tuple(start) if cell == "lstm" else start[0]
        given = xs
        if sample.lengths is not None:
            packing = torch.nn.utils.rnn.pack_padded_sequence
            lengths = torch.tensor(np.asarray(sample.lengths), dtype=torch.int64)
            given = packing(xs, lengths, enforce_sorted=False)
        hs, final = torch.func.functional_call(layer, own, (given, start))
        if sample.lengths is not None:
            hs, _ = torch.nn.utils.rnn.pad_packed_sequence(hs, total_length=len(xs))
        parts = final if cell == "lstm" else (final,)
        final = [part[k] for k in range(1 + both) for part in parts]
        pulls = [torch.tensor(np.asarray(d)) for d in (sample.d_hs, *sample.d_final)]
        pairs = zip((hs, *final), pulls, strict=True)
        torch.stack([(a * d).sum() for a, d in pairs]).sum().backward()
        ends = tuple(part.detach().numpy() for part in final)
        grads = jax.tree.map(lambda t: t.grad.numpy(), (own, xs, state))
        return Results(hs.detach().numpy(), ends, *grads)

    return Other(
        random_like(shapes, dtype),
        partial(convert.from_torch, kind=cell),
        partial(convert.to_torch, kind=cell),
        results,
    )


LIBRARIES: dict[str, Callable[..., Other | None]] = {
    "keras": keras,
    "flax linen": flax_linen,
    "flax nnx": flax_nnx,
    "haiku": haiku,
    "equinox": equinox,
    "torch": torch,
    "onnx": onnx,
}
_MODULES = {"flax linen": "flax", "flax nnx": "flax"}


def installed(library: str) -> bool:
    """Whether this library can be imported."""
    return find_spec(_MODULES.get(library, library)) is not None


def other(
    library: str, kind: str, sizes: Sizes, bias: bool, dtype: Any
) -> Other | None:
    """That network, or None where the library is not installed or has no such one."""
    if not installed(library):
        return None
    return LIBRARIES[library](kind, sizes, bias, dtype)
