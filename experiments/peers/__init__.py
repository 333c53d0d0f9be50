"""Other libraries' networks, one library a file, for benchmarks and conversion.

One function a library: `library(kind, sizes, bias, dtype) -> Peer`, or None where it
has no such network. A further one is added to `LIBRARIES`.
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
    """That network, or None where the library is not installed or has no such one."""
    if not installed(library):
        return None
    return LIBRARIES[library](kind, sizes, bias, dtype)


def jax_peers(cell: Any, kind: str, sizes: Sizes) -> dict[str, Peer]:
    """The JAX libraries' networks that are read as this cell, on float32 weights.

    Haiku's Elman network, which is relu, is none of a tanh cell's.
    """
    found = {}
    for library in JAX_PEERS:
        for name in (f"optimized {kind}", kind):
            peer = peer_of(library, name, sizes)
            if peer is not None and peer.read(peer.weights)[0] == cell:
                found.setdefault(library, peer)
    return found
