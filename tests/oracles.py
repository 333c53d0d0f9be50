"""Slow, obvious NumPy loops in float64, written from the equations alone.

One sequence at a time, one step at a time, each weight gradient a sum by `+=`; they
share no line with the library, whose `Params` and states serve as containers only.
Row vectors: x [D], h [H], w_x [D, G·H], w_s [H, G·H].
"""

from typing import NamedTuple

import numpy as np


class Answer(NamedTuple):
    """The results of a run and its backward pass, for xs [T, ..., D]."""

    states: tuple  # parts [T, ..., H]
    params: dict  # w_x, w_s, b, b_s
    xs: np.ndarray
    state: tuple  # ∂E/∂ the initial state


class Row(NamedTuple):
    """The same for one sequence [T, D]."""

    states: list  # of tuples of parts [H]
    params: dict
    xs: list
    state: tuple


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


# Φ and Φ', both of the pre-activation
ACTIVATIONS = {
    "tanh": (np.tanh, lambda a: 1 - np.tanh(a) ** 2),
    "relu": (lambda a: np.maximum(a, 0), lambda a: np.where(a > 0, 1.0, 0.0)),
    "sigmoid": (sigmoid, lambda a: sigmoid(a) * (1 - sigmoid(a))),
    "identity": (lambda a: a, lambda a: np.ones_like(a)),
    "sin": (np.sin, np.cos),
}


def elman(activation):
    """s_t = Φ(x_t W_x + s_{t-1} W_s + b)."""
    phi, slope = ACTIVATIONS[activation]

    def run(w_x, w_s, b, b_s, xs, state, d_states, d_final):
        (s,) = state
        states, a = [], []
        before = [s]  # s_{t-1} at index t
        for x in xs:
            a.append(x @ w_x + s @ w_s + b + b_s)
            s = phi(a[-1])
            states.append((s,))
            before.append(s)

        g_x, g_s, g_b = np.zeros_like(w_x), np.zeros_like(w_s), np.zeros_like(b)
        d_xs = [np.zeros_like(x) for x in xs]
        (d_s,) = d_final
        for t in reversed(range(len(xs))):
            d_s = d_s + d_states[t][0]
            d_a = d_s * slope(a[t])
            g_x += np.outer(xs[t], d_a)
            g_s += np.outer(before[t], d_a)
            g_b += d_a
            d_xs[t] = w_x @ d_a
            d_s = w_s @ d_a
        return Row(states, {"w_x": g_x, "w_s": g_s, "b": g_b, "b_s": g_b}, d_xs, (d_s,))

    return run


def lstm(w_x, w_s, b, b_s, xs, state, d_states, d_final):
    """c_t = f c_{t-1} + i g,  h_t = o tanh(c_t); gates in the order i, f, g, o."""
    size = w_s.shape[0]
    part = {gate: slice(k * size, (k + 1) * size) for k, gate in enumerate("ifgo")}
    h, c = state
    states, tape = [], []
    for x in xs:
        a = x @ w_x + h @ w_s + b + b_s
        i, f, o = (sigmoid(a[part[gate]]) for gate in "ifo")
        g = np.tanh(a[part["g"]])
        c_new = f * c + i * g
        tape.append((i, f, g, o, h, c, c_new))
        h, c = o * np.tanh(c_new), c_new
        states.append((h, c))

    g_x, g_s, g_b = np.zeros_like(w_x), np.zeros_like(w_s), np.zeros_like(b)
    d_xs = [np.zeros_like(x) for x in xs]
    d_h, d_c = d_final
    for t in reversed(range(len(xs))):
        i, f, g, o, h_before, c_before, c_new = tape[t]
        d_h = d_h + d_states[t][0]
        d_c = d_c + d_states[t][1]
        d_o = d_h * np.tanh(c_new)
        d_c = d_c + d_h * o * (1 - np.tanh(c_new) ** 2)
        d_i, d_f, d_g = d_c * g, d_c * c_before, d_c * i
        d_a = np.zeros(4 * size)
        d_a[part["i"]] = d_i * i * (1 - i)
        d_a[part["f"]] = d_f * f * (1 - f)
        d_a[part["g"]] = d_g * (1 - g**2)
        d_a[part["o"]] = d_o * o * (1 - o)
        g_x += np.outer(xs[t], d_a)
        g_s += np.outer(h_before, d_a)
        g_b += d_a
        d_xs[t] = w_x @ d_a
        d_h, d_c = w_s @ d_a, d_c * f
    return Row(states, {"w_x": g_x, "w_s": g_s, "b": g_b, "b_s": g_b}, d_xs, (d_h, d_c))


def gru(w_x, w_s, b, b_s, xs, state, d_states, d_final):
    """n = tanh(z_n + ρ r_n),  h_t = (1-u) n + u h_{t-1}; gates in the order ρ, u, n."""
    size = w_s.shape[0]
    part = {gate: slice(k * size, (k + 1) * size) for k, gate in enumerate("run")}
    (h,) = state
    states, tape = [], []
    for x in xs:
        z, r = x @ w_x + b, h @ w_s + b_s
        reset = sigmoid(z[part["r"]] + r[part["r"]])
        update = sigmoid(z[part["u"]] + r[part["u"]])
        r_n = r[part["n"]]
        n = np.tanh(z[part["n"]] + reset * r_n)
        tape.append((reset, update, n, r_n, h))
        h = (1 - update) * n + update * h
        states.append((h,))

    g_x, g_s = np.zeros_like(w_x), np.zeros_like(w_s)
    g_b, g_b_s = np.zeros_like(b), np.zeros_like(b_s)
    d_xs = [np.zeros_like(x) for x in xs]
    (d_h,) = d_final
    for t in reversed(range(len(xs))):
        reset, update, n, r_n, h_before = tape[t]
        d_h = d_h + d_states[t][0]
        d_update = d_h * (h_before - n)
        d_a_n = d_h * (1 - update) * (1 - n**2)
        d_reset = d_a_n * r_n
        d_z, d_r = np.zeros(3 * size), np.zeros(3 * size)
        d_z[part["r"]] = d_r[part["r"]] = d_reset * reset * (1 - reset)
        d_z[part["u"]] = d_r[part["u"]] = d_update * update * (1 - update)
        d_z[part["n"]] = d_a_n
        d_r[part["n"]] = d_a_n * reset
        g_x += np.outer(xs[t], d_z)
        g_s += np.outer(h_before, d_r)
        g_b += d_z
        g_b_s += d_r
        d_xs[t] = w_x @ d_z
        d_h = d_h * update + w_s @ d_r
    return Row(states, {"w_x": g_x, "w_s": g_s, "b": g_b, "b_s": g_b_s}, d_xs, (d_h,))


ORACLES = {f"elman-{name}": elman(name) for name in ACTIVATIONS}
ORACLES |= {"lstm": lstm, "gru": gru}


def run(name, params, xs, state, d_states=None, d_final=None) -> Answer:
    """Run any number of batch axes, row by row; a missing bias is zeros."""
    wide = params.w_s.shape[1]
    b, b_s = (
        np.zeros(wide) if bias is None else np.float64(bias)
        for bias in (params.b, params.b_s)
    )
    w_x, w_s, xs = (np.float64(a) for a in (params.w_x, params.w_s, xs))
    steps, *batch, _ = xs.shape
    state = tuple(np.float64(part) for part in state)
    hidden = state[0].shape[-1]
    if d_states is None:
        d_states = tuple(np.zeros((steps, *batch, hidden)) for _ in state)
    if d_final is None:
        d_final = tuple(np.zeros((*batch, hidden)) for _ in state)

    total = {"w_x": 0.0, "w_s": 0.0, "b": 0.0, "b_s": 0.0}
    states = tuple(np.zeros((steps, *batch, hidden)) for _ in state)
    d_xs = np.zeros_like(xs)
    d_start = tuple(np.zeros((*batch, hidden)) for _ in state)
    for at in np.ndindex(*batch):
        row = ORACLES[name](
            w_x,
            w_s,
            b,
            b_s,
            [xs[(t, *at)] for t in range(steps)],
            tuple(part[at] for part in state),
            [tuple(d[(t, *at)] for d in d_states) for t in range(steps)],
            tuple(d[at] for d in d_final),
        )
        for leaf in total:
            total[leaf] = total[leaf] + row.params[leaf]
        for t in range(steps):
            d_xs[(t, *at)] = row.xs[t]
            for k, part in enumerate(row.states[t]):
                states[k][(t, *at)] = part
        for k, part in enumerate(row.state):
            d_start[k][at] = part
    if params.b is None:
        total["b"] = None
    if params.b_s is None:
        total["b_s"] = None
    return Answer(states, total, d_xs, d_start)


# Equations 58-60 as they are printed ----------------------------------------------


class Elman(NamedTuple):
    """One sequence through s_t = Φ(x_t W_x + s_{t-1} W_s), y_t = s_t W_y.

    Lists are numbered from 1, as the equations are; `s[0]` is the state before.
    """

    s: list
    y: list
    s_s: list  # ∂s_i/∂s_{i-1} [H, H], row: of, column: by
    s_w_s: list  # immediate ∂s_i/∂W_s [H, H, H], s_{i-1} held fixed
    s_w_x: list  # immediate ∂s_i/∂W_x [H, D, H]


def unfold(w_x, w_s, w_y, xs, s_0, activation="tanh") -> Elman:
    """Every factor of (58)-(60), each a full Jacobian."""
    phi, slope = ACTIVATIONS[activation]
    size = w_s.shape[0]
    net = Elman([s_0], [None], [None], [None], [None])
    for x in xs:
        before = net.s[-1]
        a = x @ w_x + before @ w_s  # (56)
        s_s = np.zeros((size, size))
        s_w_s = np.zeros((size, *w_s.shape))
        s_w_x = np.zeros((size, *w_x.shape))
        for j in range(size):
            for k in range(size):
                s_s[j, k] = slope(a)[j] * w_s[k, j]
                s_w_s[j, k, j] = slope(a)[j] * before[k]
            for k in range(len(x)):
                s_w_x[j, k, j] = slope(a)[j] * x[k]
        net.s.append(phi(a))
        net.y.append(net.s[-1] @ w_y)  # (57)
        net.s_s.append(s_s)
        net.s_w_s.append(s_w_s)
        net.s_w_x.append(s_w_x)
    return net


def total_derivatives(net: Elman) -> Elman:
    """∂s_i/∂W through every earlier state too: what (59) and (60) do NOT mean."""
    s_w_s, s_w_x = list(net.s_w_s), list(net.s_w_x)
    for i in range(2, len(net.s)):
        s_w_s[i] = s_w_s[i] + np.einsum("jh,hkl->jkl", net.s_s[i], s_w_s[i - 1])
        s_w_x[i] = s_w_x[i] + np.einsum("jh,hkl->jkl", net.s_s[i], s_w_x[i - 1])
    return net._replace(s_w_s=s_w_s, s_w_x=s_w_x)


def gradients_of_one_step(net: Elman, w_y, d, last):
    """(58), (59), (60) for E_N = (d - y_N)², N = `last`: W_y's, W_s's and W_x's."""
    e_y = 2 * (net.y[last] - d)  # ∂E_N/∂y_N
    g_y = np.zeros_like(w_y)
    for k in range(w_y.shape[0]):
        for o in range(w_y.shape[1]):
            g_y[k, o] = e_y[o] * net.s[last][k]  # (58)
    g_s, g_x = 0.0, 0.0
    for i in range(1, last + 1):
        y_s = w_y.T  # ∂y_N/∂s_i = ∂y_N/∂s_N Π_{j=i+1..N} ∂s_j/∂s_{j-1}
        for j in range(last, i, -1):
            y_s = y_s @ net.s_s[j]
        g_s = g_s + np.einsum("h,hkl->kl", e_y @ y_s, net.s_w_s[i])  # (59)
        g_x = g_x + np.einsum("h,hkl->kl", e_y @ y_s, net.s_w_x[i])  # (60)
    return g_y, g_s, g_x


def double_sum(params, xs, targets, weights, *, total=False):
    """Σ over N of (58)-(60), each step weighted by its share: W_x's, W_s's, W_y's.

    `params` (w_x, w_s, w_y), xs [T, B, D], targets [T, B, O], weights [T, B]; zero
    initial state. With `total` the last factor is the total derivative, wrongly.
    """
    w_x, w_s, w_y = params
    sums = [0.0, 0.0, 0.0]
    for row in range(xs.shape[1]):
        net = unfold(w_x, w_s, w_y, xs[:, row], np.zeros(w_s.shape[0]))
        if total:
            net = total_derivatives(net)
        for last in range(1, len(xs) + 1):
            share = weights[last - 1, row] / weights.sum()
            g_y, g_s, g_x = gradients_of_one_step(
                net, w_y, targets[last - 1, row], last
            )
            for k, g in enumerate((g_x, g_s, g_y)):
                sums[k] = sums[k] + share * g
    return tuple(sums)
