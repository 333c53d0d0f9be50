"""How a run over time is done. Private: nothing here is a promise.

From the bottom up:

    numerics, activations   rules of arithmetic; Φ and its slope
    trees                   pytrees in words
    checks, by_value        errors at trace time; one object for equal arguments
    sizes                   what init is asked for: a key, sizes, a dtype, batch axes
    maps                    z = x W_x + b, r = h W_s + b_s, and sums of outer products
    updates, mesh           what an optimiser is given; a batch over devices
    marks                   lengths, resets, zoneout: what differs by step and row
    chunks                  how a run over time is cut up, and scanned
    forward                 one step, and the loop over time
    backward                equations 59 and 60, one step back, and their loop
    runners                 how one cell is run: by hand or by JAX
    route                   a layer taken apart into its cells, run by a runner
    door                    the caller's arguments, checked once, as what a run takes
    folded                  one step of a layer
"""
