"""Gradients carried forward in time, without a backward pass over the sequence.

All are `Online` records: they learn step by step, and `gradient` sums one over a
sequence; `learner` adds a network's readout and error, resets and masks. With a state
of size N, P parameters, B rows:

    method              gradient           time a step    memory
    bptt                exact              B (N² + P)     B N T
    rtrl                exact              B N² P         B N P
    snap1, eprop, rflo  biased, local      B P            B P a part of the state
    uoro                unbiased, noisy    B (N² + P)     B P
    truncated(k1, k2)   biased, k2 steps   B P k2 / k1    B N k2
"""

from jaxrnn.online.learning import Learner as Learner
from jaxrnn.online.learning import learner as learner
from jaxrnn.online.local import eprop as eprop
from jaxrnn.online.local import rflo as rflo
from jaxrnn.online.local import snap1 as snap1
from jaxrnn.online.record import Online as Online
from jaxrnn.online.record import gradient as gradient
from jaxrnn.online.rtrl import rtrl as rtrl
from jaxrnn.online.truncated import truncated as truncated
from jaxrnn.online.uoro import uoro as uoro
