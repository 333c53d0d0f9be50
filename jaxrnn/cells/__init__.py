"""The cells, one transition per file."""

from jaxrnn.cells.clipped import clipped as clipped
from jaxrnn.cells.custom import custom_cell as custom_cell
from jaxrnn.cells.elman import elman as elman
from jaxrnn.cells.gru import gru as gru
from jaxrnn.cells.indrnn import indrnn as indrnn
from jaxrnn.cells.layer_norm import layer_norm as layer_norm
from jaxrnn.cells.lru import lru as lru
from jaxrnn.cells.lstm import lstm as lstm
from jaxrnn.cells.mgu import mgu as mgu
from jaxrnn.cells.mingru import mingru as mingru
from jaxrnn.cells.mixed import mixed_precision as mixed_precision
