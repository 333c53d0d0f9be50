"""Weights from other libraries, and back.

`from_X` returns a cell or a layer and its parameters; `to_X` is its inverse. Arrays
come and go in plain lists, dicts and tuples, so the other library is not needed.
"""

from jaxrnn.convert.equinox import from_equinox as from_equinox
from jaxrnn.convert.equinox import to_equinox as to_equinox
from jaxrnn.convert.flax import from_flax as from_flax
from jaxrnn.convert.flax import from_nnx as from_nnx
from jaxrnn.convert.flax import to_flax as to_flax
from jaxrnn.convert.flax import to_nnx as to_nnx
from jaxrnn.convert.haiku import from_haiku as from_haiku
from jaxrnn.convert.haiku import to_haiku as to_haiku
from jaxrnn.convert.keras import from_keras as from_keras
from jaxrnn.convert.keras import to_keras as to_keras
from jaxrnn.convert.onnx import from_onnx as from_onnx
from jaxrnn.convert.onnx import to_onnx as to_onnx
from jaxrnn.convert.torch import from_torch as from_torch
from jaxrnn.convert.torch import to_torch as to_torch
