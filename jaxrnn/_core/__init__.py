"""The engine that runs layers over time. Private: anything here may change.

From the bottom up:

    numerics, activations   rules of arithmetic; Φ and its slope
    trees                   describing pytrees in messages
    checks, by_value        errors at trace time; one object for equal arguments
    sizes                   the arguments of init: a key, sizes, a dtype, batch axes
    maps                    z = x W_x + b, r = h W_s + b_s, and sums of outer products
    updates, mesh           what an optimiser is given; a batch over devices
    marks                   lengths, resets, zoneout: what differs by step and row
    chunks                  how a run over time is cut into chunks, and scanned
    forward                 one step, and the loop over time
    backward                equations 59 and 60, one step back, and their loop
    runners                 how one cell is run: by hand or by JAX
    route                   a layer split into its cells, each run by a runner
    door                    the caller's arguments, checked once and made a carrier
    folded                  one step of a layer
"""
