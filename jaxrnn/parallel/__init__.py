"""Recurrent networks parallel in time: the same numbers, in log T rounds of products.

`bptt` is the backward pass as one scan of Jacobians, exact; `unroll` the forward pass
by Newton's method over the whole sequence, or directly where the cell is linear.
"""

from jaxrnn.parallel.bptt import ParallelBPTT as ParallelBPTT
from jaxrnn.parallel.bptt import bptt as bptt
from jaxrnn.parallel.newton import Newton as Newton
from jaxrnn.parallel.unroll import unroll as unroll
