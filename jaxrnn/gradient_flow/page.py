"""A report as one page that needs nothing beside itself."""

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from io import BytesIO

from jaxrnn.gradient_flow.figure import PANELS, draw_one
from jaxrnn.gradient_flow.health import LayerHealth, lines

_STYLE = """
body { font: 16px/1.45 system-ui, sans-serif; color: #222; background: #fff;
  max-width: 70rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; margin: 0.5rem 0; }
h2 { font-size: 1.15rem; margin: 1.5rem 0 0.5rem; overflow-wrap: anywhere; }
h2 code { font-weight: normal; color: #555; }
.bad { color: #a40000; font-weight: bold; }
.panels { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); }
.panels img { width: 100%; height: auto; }
dl { display: grid; grid-template-columns: 6.5rem 13rem 1fr; gap: 0.3rem 1rem;
  margin: 0; }
dt, dd { margin: 0; }
dt { color: #555; }
.figure { font-variant-numeric: tabular-nums; font-weight: bold; }
@media (max-width: 48rem) {
  dl { grid-template-columns: 6.5rem 1fr; row-gap: 0; }
  .meaning { grid-column: 1 / -1; margin-bottom: 0.6rem; }
}
"""


def page(
    head: str,
    faults: Sequence[str],
    layers: Sequence[LayerHealth],
    window: int,
    max_norm: float | None,
    left_out: Sequence[str],
) -> str:
    """The HTML of a report, its figure as SVG inside."""
    body = [f"<h1>Gradient health</h1>\n<p>{escape(head)}</p>"]
    body += [f'<p class="bad">{escape(fault)}</p>' for fault in faults]
    if layers:
        images = "\n".join(_image(name, layers, window) for name in PANELS)
        body.append(f'<div class="panels">\n{images}\n</div>')
    body += [_section(layer, window, max_norm) for layer in layers]
    if left_out:
        items = "\n".join(f"<li>{escape(why)}</li>" for why in left_out)
        body.append(f"<h2>Left out</h2>\n<ul>\n{items}\n</ul>")
    inside = "\n".join(body)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Gradient health</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{inside}\n</body>\n</html>\n"
    )


def _section(layer: LayerHealth, window: int, max_norm: float | None) -> str:
    rows = "\n".join(
        f'<dt>{escape(name)}</dt><dd class="figure">{escape(figure)}</dd>'
        f'<dd class="meaning">{escape(meaning)}</dd>'
        for name, figure, meaning in lines(layer, window, max_norm)
    )
    title = f"{escape(layer.name)} <code>{escape(layer.kind)}</code>"
    return f"<section>\n<h2>{title}</h2>\n<dl>\n{rows}\n</dl>\n</section>"


def _image(name: str, layers: Sequence[LayerHealth], window: int) -> str:
    drawn = BytesIO()
    figure = draw_one(name, layers, window)
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    data = b64encode(drawn.getvalue()).decode()
    return f'<img alt="{escape(name)}" src="data:image/svg+xml;base64,{data}">'
