"""Recurrent networks parallel in time: the same results in O(log T) rounds.

`bptt` is the exact backward pass as one scan of Jacobians; `unroll` the forward pass
by Newton's method over the whole sequence, or directly if the cell is linear.
"""

from jaxrnn.parallel.backprop import bptt as bptt
from jaxrnn.parallel.model import unroll as unroll
from jaxrnn.parallel.newton import Newton as Newton
