"""Other libraries' networks, one library per file, for benchmarks and conversion.

One function per library: `library(kind, sizes, bias, dtype) -> Peer`, or None if it has
no such network. Add a new one to `LIBRARIES`.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from experiments.peers.equinox import equinox
from experiments.peers.flax import flax_linen, flax_nnx
from experiments.peers.haiku import haiku
from experiments.peers.keras import keras
from experiments.peers.onnx import onnx
from experiments.peers.record import Peer, Sizes
from experiments.peers.torch import torch

LIBRARIES: dict[str, Callable[..., Peer | None]] = {
    "keras": keras,
    "flax linen": flax_linen,
    "flax nnx": flax_nnx,
    "haiku": haiku,
    "equinox": equinox,
    "torch": torch,
    "onnx": onnx,
}
JAX_PEERS = ("flax linen", "flax nnx", "equinox", "haiku", "keras")


def installed(library: str) -> bool:
    """Whether this library can be imported."""
    return find_spec(library.split()[0]) is not None


def peer_of(
    library: str, kind: str, sizes: Sizes, bias: bool = True, dtype: Any = "float32"
) -> Peer | None:
    """That network, or None if the library is not installed or does not have it."""
    if not installed(library):
        return None
    return LIBRARIES[library](kind, sizes, bias, dtype)


def jax_peers(cell: Any, kind: str, sizes: Sizes) -> dict[str, Peer]:
    """The JAX libraries' networks that convert to this cell, with float32 weights.

    Haiku's Elman network is left out for a tanh cell, since it is relu.
    """
    found = {}
    for library in JAX_PEERS:
        for name in (f"optimized {kind}", kind):
            peer = peer_of(library, name, sizes)
            if peer is not None and peer.read(peer.weights)[0] == cell:
                found.setdefault(library, peer)
    return found
