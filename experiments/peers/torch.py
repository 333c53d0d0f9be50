"""torch: `torch.nn` on the CPU."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from experiments.peers.record import Peer, Results, Sizes, bare, random_like
from jaxrnn import Params, convert

_MODULES = {"elman": "RNN", "lstm": "LSTM", "gru": "GRU"}


def torch(kind: str, sizes: Sizes, bias: bool, dtype: Any) -> Peer | None:
    """`RNN`, `LSTM` or `GRU`; lengths are a packed sequence."""
    import torch  # pyright: ignore[reportMissingImports]

    cell, both = kind.split()[-1], kind.startswith("bidirectional")
    if cell not in _MODULES or kind == "optimized lstm":
        return None
    module = getattr(torch.nn, _MODULES[cell])
    options = {"bias": bias, "dtype": getattr(torch, np.dtype(dtype).name)}
    layer = module(*sizes, bidirectional=both, **options)
    shapes = {name: p.detach().numpy() for name, p in layer.state_dict().items()}

    def results(weights, sample):
        make = lambda a: torch.tensor(np.asarray(a), requires_grad=True)  # noqa: E731
        inputs = jax.tree.map(make, (weights, sample.xs, sample.state))
        own, given, state = inputs
        # torch: [directions, B, H] of h, and of c
        count = len(state) // (1 + both)
        start = bare(tuple(torch.stack(state[k::count]) for k in range(count)))
        if sample.lengths is not None:
            lengths = torch.tensor(np.asarray(sample.lengths), dtype=torch.int64)
            packing = torch.nn.utils.rnn.pack_padded_sequence
            given = packing(given, lengths, enforce_sorted=False)
        hs, final = torch.func.functional_call(layer, own, (given, start))
        if sample.lengths is not None:
            unpacking = torch.nn.utils.rnn.pad_packed_sequence
            hs, _ = unpacking(hs, total_length=len(sample.xs))
        ends = final if cell == "lstm" else (final,)
        made = [hs, *(part[k] for k in range(1 + both) for part in ends)]
        pulls = [torch.tensor(np.asarray(d)) for d in (sample.d_hs, *sample.d_final)]
        torch.autograd.backward(made, pulls)
        hs, *final = (part.detach().numpy() for part in made)
        return Results(
            hs, tuple(final), *jax.tree.map(lambda t: t.grad.numpy(), inputs)
        )

    return Peer(
        partial(convert.to_torch, kind=cell),
        None,
        read=partial(convert.from_torch, kind=cell),
        weights=random_like(shapes, dtype),
        results=results,
    )


def torch_runs(
    cell: str, params: Any, xs: Any, w: Any
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """E = Σ w·h alone, and E with its gradient, one `Params` per layer.

    It takes the parameters of one layer, or of a stack.
    """
    import torch  # pyright: ignore[reportMissingImports]

    weights = convert.to_torch(params, cell)
    depth = sum(name.startswith("weight_ih") for name in weights)
    module = getattr(torch.nn, _MODULES[cell])
    layer = module(xs.shape[-1], w.shape[-1], num_layers=depth)
    layer.load_state_dict({k: torch.from_numpy(a) for k, a in weights.items()})
    xs, w = (torch.from_numpy(np.array(a)) for a in (xs, w))

    def forward():
        with torch.no_grad():
            return (layer(xs)[0] * w).sum().item()

    def gradient():
        layer.zero_grad(set_to_none=True)
        error = (layer(xs)[0] * w).sum()
        error.backward()
        grads = {name: p.grad.numpy() for name, p in layer.named_parameters()}
        names = ("weight_ih", "weight_hh", "bias_ih")
        return error.item(), [
            Params(*(grads[f"{name}_l{k}"].T for name in names)) for k in range(depth)
        ]

    return forward, gradient
