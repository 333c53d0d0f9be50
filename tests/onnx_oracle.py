"""ONNX's RNN, LSTM and GRU in slow NumPy, one row and one step at a time.

Written from the operators' equations (version 22) in their own layout and gate order,
with every attribute.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

# By name: the function, and its alpha and beta if it takes them: the default ones, NaN
# where there is no operator of that name to give one.
ACTIVATIONS: dict[str, tuple[Callable[..., Any], float | None, float | None]] = {
    "Relu": (lambda x, a, b: max(0.0, x), None, None),
    "Tanh": (lambda x, a, b: np.tanh(x), None, None),
    "Sigmoid": (lambda x, a, b: 1 / (1 + np.exp(-x)), None, None),
    "Affine": (lambda x, a, b: a * x + b, np.nan, np.nan),
    "LeakyRelu": (lambda x, a, b: x if x >= 0 else a * x, 0.01, None),
    "ThresholdedRelu": (lambda x, a, b: x if x >= a else 0.0, 1.0, None),
    "ScaledTanh": (lambda x, a, b: a * np.tanh(b * x), np.nan, np.nan),
    "HardSigmoid": (lambda x, a, b: min(max(a * x + b, 0.0), 1.0), 0.2, 0.5),
    "Elu": (lambda x, a, b: x if x >= 0 else a * (np.exp(x) - 1), 1.0, None),
    "Softsign": (lambda x, a, b: x / (1 + abs(x)), None, None),
    "Softplus": (lambda x, a, b: np.log(1 + np.exp(x)), None, None),
}
DEFAULTS = {
    "RNN": ["Tanh"],
    "LSTM": ["Sigmoid", "Tanh", "Tanh"],
    "GRU": ["Sigmoid", "Tanh"],
}


def functions(names, alphas, betas, clip):
    """The activations of rows; alpha and beta go in order to those that take one."""
    alphas, betas = list(alphas or []), list(betas or [])
    found = []
    for name in names:
        f, alpha, beta = ACTIVATIONS[name]
        if alpha is not None and alphas:
            alpha = alphas.pop(0)
        if beta is not None and betas:
            beta = betas.pop(0)

        def apply(row, f=f, alpha=alpha, beta=beta):
            if clip is not None:
                row = np.minimum(np.maximum(row, -clip), clip)
            return np.array([f(x, alpha, beta) for x in row])

        found.append(apply)
    return found


def rnn_step(acts, x, h, c, w, r, wb, rb, p, options):
    (f,) = acts
    return f(w @ x + r @ h + wb + rb), c


def lstm_step(acts, x, h, c, w, r, wb, rb, p, options):
    f, g, act_h = acts
    w_i, w_o, w_f, w_c = np.split(w, 4)
    r_i, r_o, r_f, r_c = np.split(r, 4)
    wb_i, wb_o, wb_f, wb_c = np.split(wb, 4)
    rb_i, rb_o, rb_f, rb_c = np.split(rb, 4)
    p_i, p_o, p_f = np.split(p, 3)
    i = f(w_i @ x + r_i @ h + p_i * c + wb_i + rb_i)
    forget = f(w_f @ x + r_f @ h + p_f * c + wb_f + rb_f)
    if options.get("input_forget"):
        forget = 1 - i
    candidate = g(w_c @ x + r_c @ h + wb_c + rb_c)
    new = forget * c + i * candidate
    o = f(w_o @ x + r_o @ h + p_o * new + wb_o + rb_o)
    return o * act_h(new), new


def gru_step(acts, x, h, c, w, r, wb, rb, p, options):
    f, g = acts
    w_z, w_r, w_h = np.split(w, 3)
    r_z, r_r, r_h = np.split(r, 3)
    wb_z, wb_r, wb_h = np.split(wb, 3)
    rb_z, rb_r, rb_h = np.split(rb, 3)
    z = f(w_z @ x + r_z @ h + wb_z + rb_z)
    reset = f(w_r @ x + r_r @ h + wb_r + rb_r)
    if options.get("linear_before_reset"):
        candidate = g(w_h @ x + reset * (r_h @ h + rb_h) + wb_h)
    else:
        candidate = g(w_h @ x + r_h @ (reset * h) + rb_h + wb_h)
    return (1 - z) * candidate + z * h, c


STEPS = {"RNN": rnn_step, "LSTM": lstm_step, "GRU": gru_step}


def run_operator(
    op: str,
    x: np.ndarray,
    w: np.ndarray,
    r: np.ndarray,
    b: np.ndarray | None,
    p: np.ndarray | None,
    initial_h: np.ndarray,
    initial_c: np.ndarray,
    sequence_lens: Any,
    *,
    direction: str = "forward",
    **options: Any,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Y [T, directions, B, H], Y_h and Y_c [directions, B, H]; layout 0."""
    count, wide, _ = w.shape
    steps, rows, units = len(x), x.shape[1], r.shape[-1]
    b = np.zeros((count, 2 * wide)) if b is None else b
    p = np.zeros((count, 3 * units)) if p is None else p
    acts = functions(
        options.get("activations") or DEFAULTS[op] * count,
        options.get("activation_alpha"),
        options.get("activation_beta"),
        options.get("clip"),
    )
    size = len(acts) // count
    y = np.zeros((steps, count, rows, units))
    y_h, y_c = np.array(initial_h), np.array(initial_c)
    for d in range(count):
        mine = acts[d * size : (d + 1) * size]
        for row in range(rows):
            length = steps if sequence_lens is None else sequence_lens[row]
            order = range(length)
            if direction == "reverse" or d == 1:
                order = reversed(order)
            h, c = y_h[d, row], y_c[d, row]
            for t in order:
                h, c = STEPS[op](
                    mine, x[t, row], h, c, w[d], r[d], *np.split(b[d], 2), p[d], options
                )
                y[t, d, row] = h
            y_h[d, row], y_c[d, row] = h, c
    return y, y_h, y_c
