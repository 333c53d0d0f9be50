"""Weights from other libraries, and back.

`from_X` gives a cell, or a layer, and its parameters; `to_X` is its inverse. They take
and give arrays in plain dicts and tuples: no other library is needed.
"""

from jaxrnn.convert.onnx import from_onnx as from_onnx
from jaxrnn.convert.onnx import to_onnx as to_onnx
from jaxrnn.convert.torch import from_torch as from_torch
from jaxrnn.convert.torch import to_torch as to_torch
