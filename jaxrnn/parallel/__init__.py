"""Recurrent networks parallel in time: the same numbers, in log T rounds of products.

`bptt` is the backward pass as one scan of Jacobians, exact; `unroll` the forward pass
by Newton's method over the whole sequence, or directly where the cell is linear.
"""

from jaxrnn.parallel.backprop import bptt as bptt
from jaxrnn.parallel.model import unroll as unroll
from jaxrnn.parallel.newton import Newton as Newton
