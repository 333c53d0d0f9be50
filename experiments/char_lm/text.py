"""Character text: a corpus, its streams of windows, and n-gram baselines."""

import hashlib
import lzma
from pathlib import Path
from typing import NamedTuple

import numpy as np

_SHAKESPEARE = Path(__file__).parents[1] / "data" / "shakespeare.txt.xz"


class Corpus(NamedTuple):
    """A text as symbol indices [N], split by position into train and held-out."""

    name: str
    sha256: str
    symbols: str
    train: np.ndarray
    held_out: np.ndarray

    def decode(self, indices) -> str:
        """The text of these indices."""
        codes = np.array([ord(symbol) for symbol in self.symbols], "<u4")
        return codes[np.asarray(indices)].tobytes().decode("utf-32-le")


def read_corpus(path: Path | None = None, train_share: float = 0.9) -> Corpus:
    """Read a UTF-8 text file, or by default Shakespeare's works.

    Raises ValueError if it is no file, is not UTF-8, or holds fewer than 10,000
    characters or one symbol only.
    """
    if path is None:
        raw = lzma.decompress(_SHAKESPEARE.read_bytes())
    elif path.exists() and not path.is_file():
        raise ValueError(f"{path}: expected a file")
    else:
        raw = path.read_bytes()
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected UTF-8: {error}") from None
    if len(text) < 10_000:
        raise ValueError(
            f"{path}: expected at least 10,000 characters, got {len(text)}"
        )
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    symbols, indices = np.unique(codes, return_inverse=True)
    if len(symbols) < 2:
        raise ValueError(f"{path}: expected at least two different characters")
    cut = int(len(indices) * train_share)
    indices = indices.astype(np.int32)
    return Corpus(
        name="Shakespeare" if path is None else path.name,
        sha256=hashlib.sha256(raw).hexdigest(),
        symbols="".join(map(chr, symbols)),
        train=indices[:cut],
        held_out=indices[cut:],
    )


def streams(indices: np.ndarray, batch: int) -> np.ndarray:
    """Cut a text into `batch` contiguous streams, side by side: [N // batch, batch]."""
    length = len(indices) // batch
    return indices[: length * batch].reshape(batch, length).T


def windows(stream: np.ndarray, size: int) -> int:
    """The number of windows of `size` steps, with their next symbols, in a stream."""
    return (len(stream) - 1) // size


def window(stream: np.ndarray, size: int, i: int) -> tuple[np.ndarray, np.ndarray]:
    """Window i of the streams and the symbols that follow: [size, batch] each."""
    start = i * size
    return stream[start : start + size], stream[start + 1 : start + size + 1]


def ngram_bits(corpus: Corpus, order: int) -> list[float]:
    """Held-out bits per character of n-gram models of order 1, 2, ..., `order`.

    Math:    P_n(c|u) = (N(uc) + D(u) P_{n-1}(c|u')) / (N(u) + D(u)), where u is the
             n-1 characters before c, u' is u without its first, N counts in the
             training text, D(u) is how many different symbols followed u, and P_0
             is uniform
    Source:  Witten & Bell (1991), IEEE Trans. Information Theory 37, method C.
    """
    size = len(corpus.symbols)
    held_out = corpus.held_out.astype(np.int64)
    train = corpus.train.astype(np.int64)
    scored = len(held_out) - (order - 1)  # every order is scored on the same characters
    probability = np.full(scored, 1 / size)
    bits = []
    for n in range(1, order + 1):
        grams = _codes(train, n, size)
        seen, counts = np.unique(grams, return_counts=True)
        contexts, first = np.unique(seen // size, return_index=True)
        totals = np.add.reduceat(counts, first)
        kinds = np.diff(np.append(first, len(seen)))

        query = _codes(held_out, n, size)[-scored:]
        n_uc = _look_up(seen, counts, query)
        n_u = _look_up(contexts, totals, query // size)
        d_u = _look_up(contexts, kinds, query // size)
        known = n_u > 0
        mixed = (n_uc + d_u * probability) / np.maximum(n_u + d_u, 1)
        probability = np.where(known, mixed, probability)
        bits.append(float(-np.log2(probability).mean()))
    return bits


def _codes(indices: np.ndarray, n: int, size: int) -> np.ndarray:
    """Every n-gram as one number in base `size`, with the last symbol lowest."""
    codes = np.zeros(len(indices) - n + 1, np.int64)
    for i in range(n):
        codes = codes * size + indices[i : i + len(codes)]
    return codes


def _look_up(keys: np.ndarray, values: np.ndarray, query: np.ndarray) -> np.ndarray:
    """values[keys == q] for each q, or 0 if there is none."""
    at = np.minimum(np.searchsorted(keys, query), len(keys) - 1)
    return np.where(keys[at] == query, values[at], 0)
