"""What a long run needs beside its numbers: one run a folder, and a way to stop."""

import fcntl
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Hold the folder's lock; SystemExit if another run holds it."""
    with (out / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SystemExit(f"--out: another run is at work in {out}") from None
        yield


@contextmanager
def stopping() -> Iterator[Callable[[], int]]:
    """Inside, SIGTERM and SIGINT do not end the program: the function that is given
    returns the number of the signal that came, or 0. A second one ends it at once."""
    came = 0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = number
        for kind, before in handlers.items():
            signal.signal(kind, before)

    handlers = {
        kind: signal.signal(kind, handle) for kind in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield lambda: came
    finally:
        for kind, before in handlers.items():
            signal.signal(kind, before)
