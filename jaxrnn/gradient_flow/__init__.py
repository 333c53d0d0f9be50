"""Measuring the gradient: where it vanishes, explodes or becomes NaN.

Pure functions of (cell or layer, params, xs, state), compiled; most use the backward
pass derived by hand. A lag is the number of steps from an error back to where a
parameter or a state acts on it.
"""

from jaxrnn.gradient_flow.alignment import Alignment as Alignment
from jaxrnn.gradient_flow.alignment import alignment as alignment
from jaxrnn.gradient_flow.decay import Decay as Decay
from jaxrnn.gradient_flow.decay import decay_rate as decay_rate
from jaxrnn.gradient_flow.decay import effective_horizon as effective_horizon
from jaxrnn.gradient_flow.fixed_points import FixedPoints as FixedPoints
from jaxrnn.gradient_flow.fixed_points import distinct as distinct
from jaxrnn.gradient_flow.fixed_points import fixed_points as fixed_points
from jaxrnn.gradient_flow.health import Fault as Fault
from jaxrnn.gradient_flow.health import LayerHealth as LayerHealth
from jaxrnn.gradient_flow.jacobians import Conditions as Conditions
from jaxrnn.gradient_flow.jacobians import jacobian_norms as jacobian_norms
from jaxrnn.gradient_flow.jacobians import (
    jacobian_singular_values as jacobian_singular_values,
)
from jaxrnn.gradient_flow.jacobians import spectral_radius as spectral_radius
from jaxrnn.gradient_flow.jacobians import step_jacobians as step_jacobians
from jaxrnn.gradient_flow.jacobians import vanishing_conditions as vanishing_conditions
from jaxrnn.gradient_flow.lags import LagNorms as LagNorms
from jaxrnn.gradient_flow.lags import lag_norms as lag_norms
from jaxrnn.gradient_flow.lags import truncation_bias as truncation_bias
from jaxrnn.gradient_flow.lyapunov import lyapunov_spectrum as lyapunov_spectrum
from jaxrnn.gradient_flow.nonfinite import Nonfinite as Nonfinite
from jaxrnn.gradient_flow.nonfinite import Place as Place
from jaxrnn.gradient_flow.nonfinite import first_nonfinite as first_nonfinite
from jaxrnn.gradient_flow.preservation import Preservation as Preservation
from jaxrnn.gradient_flow.preservation import norm_preservation as norm_preservation
from jaxrnn.gradient_flow.report import HealthReport as HealthReport
from jaxrnn.gradient_flow.report import report as report
from jaxrnn.gradient_flow.vitals import Vitals as Vitals
from jaxrnn.gradient_flow.vitals import vitals as vitals
