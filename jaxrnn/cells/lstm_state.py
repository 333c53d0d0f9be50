"""The state of every LSTM."""

from typing import NamedTuple

from jax import Array


class LSTMState(NamedTuple):
    """`h` [..., H], exposed, and the memory `c` [..., H]."""

    h: Array
    c: Array
