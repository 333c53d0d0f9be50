"""torch: `torch.nn` on the CPU."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from experiments.peers.record import Peer, Results, Sizes, random_like
from jaxrnn import convert


def _modules() -> dict[str, Any]:
    import torch  # pyright: ignore[reportMissingImports]

    return {"elman": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}


def torch(kind: str, sizes: Sizes, bias: bool, dtype: Any) -> Peer | None:
    """`RNN`, `LSTM` or `GRU`; lengths are a packed sequence."""
    import torch  # pyright: ignore[reportMissingImports]

    made = _modules()
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
    """E = Σ w·h alone, and E with its gradient by torch's names of the weights.

    For the parameters of one layer, or of a stack of them.
    """
    import torch  # pyright: ignore[reportMissingImports]

    weights = convert.to_torch(params, cell)
    depth = sum(name.startswith("weight_ih") for name in weights)
    units, inputs = w.shape[-1], xs.shape[-1]
    layer = _modules()[cell](inputs, units, num_layers=depth)
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
        return error.item(), grads

    return forward, gradient
