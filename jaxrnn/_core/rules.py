"""Which rule a part runs by."""

from jaxrnn._core.any_step import BY_VJP
from jaxrnn._core.equations import CLOSED
from jaxrnn._core.rule import Rule
from jaxrnn.cell import Cell
from jaxrnn.layer import Transition


def rule_of(part: Cell | Transition) -> Rule:
    """A cell's closed form, or the vjp of a step."""
    return CLOSED if isinstance(part, Cell) else BY_VJP
