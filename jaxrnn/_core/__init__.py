"""The engine that runs layers over time. Private: anything here may change.

From the bottom up:

    numerics, activations   rules of arithmetic; Φ and its slope
    trees                   pytrees in words: in messages, as JSON
    traces                  evaluating a jaxpr, equation by equation
    checks, by_value        errors at trace time; one object for equal arguments
    sizes                   the arguments of init: a key, sizes, a dtype, batch axes
    maps                    z = x W_x + b, r = h W_s + b_s, and sums of outer products
    updates, mesh           what an optimiser is given; a batch over devices
    inputs                  xs as arrays, or a pytree of arrays of any rank
    marks                   lengths, resets, zoneout: what differs by step and row
    chunks                  how a run over time is cut into chunks, and scanned
    rule                    what the engine asks of a transition: four functions
    equations               a cell's, in closed form: equations 56, 59 and 60
    any_step                any step's, by JAX's vjp of it
    rules                   which of the two a part runs by
    forward, backward       the loops over time, the same for both
    runners                 how one cell is run: by hand or by JAX
    route                   a layer split into its cells, each run by a runner
    door                    the caller's arguments, checked once and made a carrier
    folded                  one step of a layer
"""
