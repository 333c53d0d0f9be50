"""The library's cells in `torch.nn` on the CPU, on the same weights."""

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxrnn import Params


def torch_runs(
    cell: str, params: Params, xs: Any, w: Any
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Two functions: E = Σ w·h alone, and E with its gradient.

    The gradient comes as (w_ih, w_hh, b_ih) in torch's layout, one row a gate's unit.
    """
    import torch  # pyright: ignore[reportMissingImports]

    modules = {"elman": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
    d, wide = params.w_x.shape
    layer = modules[cell](d, params.w_s.shape[0])
    b_s = np.zeros(wide) if params.b_s is None else params.b_s
    given = (params.w_x.T, params.w_s.T, params.b, b_s)
    with torch.no_grad():
        for own, value in zip(layer.parameters(), given, strict=True):
            own.copy_(torch.from_numpy(np.array(value, np.float32)))
    xs, w = (torch.from_numpy(np.array(a)) for a in (xs, w))

    def forward():
        with torch.no_grad():
            return (layer(xs)[0] * w).sum().item()

    def gradient():
        layer.zero_grad(set_to_none=True)
        error = (layer(xs)[0] * w).sum()
        error.backward()
        grads = [p.grad.numpy() for p in list(layer.parameters())[:3]]
        return error.item(), grads

    return forward, gradient
