"""Checking manual gradients against other derivations, per leaf and per step."""

from jaxrnn.gradcheck.check import check_gradients as check_gradients
from jaxrnn.gradcheck.report import Comparison as Comparison
from jaxrnn.gradcheck.report import GradientReport as GradientReport
from jaxrnn.gradcheck.report import relative_errors as relative_errors
