"""The library's cells, one transition a file."""

from jaxrnn.cells.elman import ElmanState as ElmanState
from jaxrnn.cells.elman import elman as elman
from jaxrnn.cells.gru import GRUState as GRUState
from jaxrnn.cells.gru import gru as gru
from jaxrnn.cells.lstm import LSTMState as LSTMState
from jaxrnn.cells.lstm import lstm as lstm
