"""Running in pieces, with the state passed on, equals the whole to the bit on a CPU."""

from itertools import pairwise

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table import assert_equal, draw

from jaxrnn import elman, gru, lstm, stack, unroll
from jaxrnn.layers import noisy

STREAMS = {
    "lstm": lstm(),
    "gru": gru(),
    "stack": stack(lstm(), gru(), skip="residual"),
    "zoneout": stack(noisy(lstm(), zoneout=0.2), elman()),
}


@pytest.mark.parametrize("name", STREAMS)
@settings(max_examples=8)
@given(cuts=st.lists(st.integers(0, 9), max_size=3), seed=st.integers(0, 99))
def test_pieces_equal_the_whole_to_the_bit(name, cuts, seed):
    layer = STREAMS[name]
    case = draw(layer, steps=9, batch=(2,), units=5, dtype=np.float32, seed=seed)
    resets = np.random.default_rng(seed).random((9, 2)) < 0.2
    whole = unroll(layer, *case.inputs, resets=resets, noise=None)
    state, parts = case.state, []
    borders = [0, *sorted(cuts), 9]
    for begin, end in pairwise(borders):
        piece = slice(begin, end)
        hs, state = unroll(
            layer,
            case.params,
            case.xs[piece],
            state,
            resets=resets[piece],
            noise=None,
        )
        parts.append(hs)
    assert_equal((jnp.concatenate(parts), state), whole)
