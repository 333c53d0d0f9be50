"""Layers: cells combined; `unroll`, `bptt` and `network` take one like a cell.

A layer is a record like a cell; its params and its state nest as its parts do. Noise is
drawn before a run, by `draw_noise`: the same noise makes the same function, whatever
the gradient, the chunks or the pieces.
"""

from jaxrnn.layer import CellNoise as CellNoise
from jaxrnn.layers.bidirectional import Directions as Directions
from jaxrnn.layers.bidirectional import backward_only as backward_only
from jaxrnn.layers.bidirectional import bidirectional as bidirectional
from jaxrnn.layers.constrained import constrained as constrained
from jaxrnn.layers.dense import dense as dense
from jaxrnn.layers.noise import draw_noise as draw_noise
from jaxrnn.layers.noisy import noisy as noisy
from jaxrnn.layers.stack import stack as stack
from jaxrnn.layers.start import learned_start as learned_start
from jaxrnn.layers.transitions import transition as transition
