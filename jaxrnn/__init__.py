"""Recurrent networks as pure functions, their gradients derived by hand."""

from jaxrnn import convert as convert
from jaxrnn import layers as layers
from jaxrnn import optim as optim
from jaxrnn import training as training
from jaxrnn.bptt import BPTT as BPTT
from jaxrnn.bptt import bptt as bptt
from jaxrnn.cell import Cell as Cell
from jaxrnn.cell import Params as Params
from jaxrnn.cell import custom_cell as custom_cell
from jaxrnn.cells import elman as elman
from jaxrnn.cells import gru as gru
from jaxrnn.cells import lstm as lstm
from jaxrnn.forward import step as step
from jaxrnn.gradcheck import GradientReport as GradientReport
from jaxrnn.gradcheck import check_gradients as check_gradients
from jaxrnn.layers import bidirectional as bidirectional
from jaxrnn.layers import stack as stack
from jaxrnn.network import Network as Network
from jaxrnn.network import NetworkParams as NetworkParams
from jaxrnn.network import network as network
from jaxrnn.readout import ReadoutParams as ReadoutParams
from jaxrnn.readout import readout as readout
from jaxrnn.unroll import unroll as unroll
