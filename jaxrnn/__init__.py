"""Recurrent networks as pure functions, their gradients derived by hand.

    cell = jaxrnn.lstm()
    params = cell.init(jax.random.key(0), input_size=3, hidden_size=32)
    hs, final = jaxrnn.unroll(cell, params, xs)     # xs [T, B, 3] -> hs [T, B, 32]

Cells:     `elman`, `lstm`, `gru`, `mgu`, `indrnn`, `mingru`, `lru`; `custom_cell` makes
           one from a gate map; `layer_norm`, `clipped`, `mixed_precision` change one.
Layers:    `stack`, `bidirectional`, `backward_only` and `learned_start`; `noisy`, with
           `draw_noise`; `dense`, which has no memory; `constrained`, which maps the
           trained parameters first; `transition`, from any pure step. Every function
           that takes a cell also takes a layer.
Running:   `unroll` over a sequence, `step` once, `last` for the last outputs; `bptt`,
           the backward pass itself; `scan`, in place of `lax.scan`; `generate`, a
           decoder. `network` adds a readout and an error.
Checking:  `check_gradients`, `summary`, and the module `gradient_flow`.
Modules:   `convert` (weights of other libraries), `online` (gradients carried forward),
           `parallel` (parallel in time), `optim`, `training`, `checkpoints`, `layers`.
"""

from jaxrnn import (
    checkpoints,
    convert,
    gradient_flow,
    layers,
    online,
    optim,
    parallel,
    training,
)
from jaxrnn.backprop import BPTT, bptt
from jaxrnn.cell import Cell, LSTMState, Params, State
from jaxrnn.cells import (
    clipped,
    custom_cell,
    elman,
    gru,
    indrnn,
    layer_norm,
    lru,
    lstm,
    mgu,
    mingru,
    mixed_precision,
)
from jaxrnn.generation import generate
from jaxrnn.gradcheck import GradientReport, check_gradients
from jaxrnn.layer import CellNoise, Layer, Transition
from jaxrnn.layers import (
    backward_only,
    bidirectional,
    constrained,
    dense,
    draw_noise,
    learned_start,
    noisy,
    stack,
    transition,
)
from jaxrnn.model import last, step, unroll
from jaxrnn.networks import Network, NetworkParams, network
from jaxrnn.readouts import ReadoutParams, readout
from jaxrnn.scanning import scan
from jaxrnn.summaries import summary

__all__ = [
    "BPTT",
    "Cell",
    "CellNoise",
    "GradientReport",
    "LSTMState",
    "Layer",
    "Network",
    "NetworkParams",
    "Params",
    "ReadoutParams",
    "State",
    "Transition",
    "backward_only",
    "bidirectional",
    "bptt",
    "check_gradients",
    "checkpoints",
    "clipped",
    "constrained",
    "convert",
    "custom_cell",
    "dense",
    "draw_noise",
    "elman",
    "generate",
    "gradient_flow",
    "gru",
    "indrnn",
    "last",
    "layer_norm",
    "layers",
    "learned_start",
    "lru",
    "lstm",
    "mgu",
    "mingru",
    "mixed_precision",
    "network",
    "noisy",
    "online",
    "optim",
    "parallel",
    "readout",
    "scan",
    "stack",
    "step",
    "summary",
    "training",
    "transition",
    "unroll",
]
