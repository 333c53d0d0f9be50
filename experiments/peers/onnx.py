"""ONNX's recurrent operators in its own reference evaluator, on a CPU.

It has no gradient, so that of E is taken by central differences in float64.
"""

from typing import Any

import jax
import numpy as np

from experiments.peers.record import Peer, Results, Sample, Sizes, random_like
from jaxrnn import convert

# By kind: the operator, the library's word for it, its number of gates, its options.
_OPERATORS: dict[str, tuple[str, str, int, dict[str, int]]] = {
    "elman": ("RNN", "elman", 1, {}),
    "lstm": ("LSTM", "lstm", 4, {}),
    "bidirectional lstm": ("LSTM", "lstm", 4, {}),
    "gru": ("GRU", "gru", 3, {"linear_before_reset": 1}),
    "gru, reset before": ("GRU", "gru", 3, {"linear_before_reset": 0}),
}
_STEP = 6e-6  # about the cube root of float64's eps


def onnx(kind: str, sizes: Sizes, bias: bool, dtype: Any) -> Peer | None:
    """The operator on random weights; its evaluator takes no lengths."""
    if kind not in _OPERATORS:
        return None
    op, ours, gates, options = _OPERATORS[kind]
    count = 1 + kind.startswith("bidirectional")
    options = {**options, "direction": ("forward", "bidirectional")[count - 1]}
    wide = gates * sizes.h
    shapes = {"w": (count, wide, sizes.d), "r": (count, wide, sizes.h)}
    shapes |= {"b": (count, 2 * wide)} if bias else {}
    weights = random_like({k: np.empty(s) for k, s in shapes.items()}, dtype)
    run = _evaluator(op, sizes.h, bias, options, count)

    def read(weights):
        return convert.from_onnx(**weights, kind=ours, hidden_size=sizes.h, **options)

    def outputs(weights, xs, state):
        # parts by direction; the operator wants [directions, B, H] of each part
        each = len(state) // count
        starts = [np.stack(state[k::each]) for k in range(each)]
        given = {name.upper(): a for name, a in weights.items()} | {"X": xs}
        given |= dict(zip(("initial_h", "initial_c"), starts, strict=False))
        y, *final = run(given)  # y [T, directions, B, H]
        hs = np.concatenate(list(np.moveaxis(y, 1, 0)), axis=-1)
        return hs, tuple(part[d] for d in range(count) for part in final)

    def results(weights, sample: Sample):
        wide = (weights, sample.xs, sample.state)
        inputs = jax.tree.map(lambda a: np.array(a, np.float64), wide)
        pulls = (sample.d_hs, *sample.d_final)

        def error():
            hs, final = outputs(*inputs)
            return sum(np.vdot(a, b) for a, b in zip((hs, *final), pulls, strict=True))

        def difference(leaf):
            slope = np.empty_like(leaf)
            for i, value in np.ndenumerate(leaf):
                ends = []
                for moved in (value + _STEP, value - _STEP):
                    leaf[i] = moved
                    ends.append(error())
                leaf[i] = value
                slope[i] = (ends[0] - ends[1]) / (2 * _STEP)
            return slope

        return Results(*outputs(*inputs), *jax.tree.map(difference, inputs))

    return Peer(
        lambda params: params,  # weights stay as they are
        None,
        read=read,
        weights=weights,
        results=results,
        lengths=False,
    )


def _evaluator(op: str, units: int, bias: bool, options: Any, directions: int) -> Any:
    """given inputs by name -> outputs, in float64."""
    import onnx  # pyright: ignore[reportMissingImports]
    import onnx.reference  # pyright: ignore[reportMissingImports]

    if op == "RNN":  # which the evaluator does not double by itself
        options = {**options, "activations": ["Tanh"] * directions}
    memory = op == "LSTM"
    given = ["X", "W", "R", "B" if bias else "", "", "initial_h"]
    given += ["initial_c"] * memory
    made = ["Y", "Y_h"] + ["Y_c"] * memory
    node = onnx.helper.make_node(op, given, made, hidden_size=units, **options)
    kind = onnx.TensorProto.DOUBLE
    sides = [
        [onnx.helper.make_tensor_value_info(name, kind, None) for name in names if name]
        for names in (given, made)
    ]
    graph = onnx.helper.make_graph([node], op, *sides)
    opset = onnx.helper.make_opsetid("", 22)
    model = onnx.helper.make_model(graph, opset_imports=[opset])
    evaluator = onnx.reference.ReferenceEvaluator(model)
    return lambda inputs: evaluator.run(None, inputs)
