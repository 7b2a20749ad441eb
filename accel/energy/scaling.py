"""Another technology: energies scaled between nodes and supply voltages.

Energy factors of A. Stillmaker and B. Baas, "Scaling equations for the accurate prediction of CMOS device performance
from 180 nm to 7 nm", Integration 58 (2017), pp. 74-81, table 5: E(node, V) = a V^2 + b V + c, fitted to circuits
simulated with the PTM and ITRS models. A value moves by the ratio of two such energies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from accelsim.errors import UsageError

SOURCE = "Stillmaker and Baas, Integration 58 (2017), table 5"

# Coefficients a, b, c by node in nm.
COEFFICIENTS = {
    130: (7.171, -6.709, 2.904),
    90: (4.762, -4.781, 2.092),
    65: (3.755, -4.398, 1.975),
    45: (1.103, -0.362, 0.2767),
    32: (0.9559, -0.7823, 0.471),
    20: (0.373, -0.1582, 0.04104),
    16: (0.2958, -0.1241, 0.03024),
    14: (0.2363, -0.09675, 0.02239),
    10: (0.2068, -0.09311, 0.02375),
    7: (0.1776, -0.09097, 0.02447),
}
NODES = tuple(sorted(COEFFICIENTS))

# Supply voltages for which every polynomial rises with the voltage: that of 65 nm turns at 0.586 V.
VOLTAGES = (0.6, 1.1)


@dataclass(frozen=True)
class Scaling:
    """From one technology to another: what energies are multiplied by."""

    from_nm: float
    from_v: float
    to_nm: float
    to_v: float
    factor: float

    @property
    def text(self) -> str:
        """Say the factor, where it leads and who says so."""
        return (
            f"x {self.factor:.9g} from {self.from_nm:g} nm, {self.from_v:g} V to {self.to_nm:g} nm, {self.to_v:g} V "
            f"({SOURCE})"
        )


def relative_energy(node_nm: float, voltage: float) -> float:
    """Return the energy of a node at a voltage, linear between listed nodes, on the scale of the paper.

    Args:
        node_nm: from 7 to 130.
        voltage: supply in V, from 0.6 to 1.1.

    Raises:
        UsageError: either is outside the law's range.
    """
    if not (math.isfinite(node_nm) and NODES[0] <= node_nm <= NODES[-1]):
        listed = ", ".join(str(node) for node in NODES)
        raise UsageError(
            f"node {node_nm:g} nm is outside {NODES[0]}..{NODES[-1]} nm, where the scaling law has coefficients "
            f"({listed}; linear between them): choose one in that range"
        )
    if not (math.isfinite(voltage) and VOLTAGES[0] <= voltage <= VOLTAGES[1]):
        raise UsageError(
            f"supply voltage {voltage:g} V is outside {VOLTAGES[0]:g}..{VOLTAGES[1]:g} V, where the scaling law holds: "
            "choose --vdd in that range"
        )
    below = max(node for node in NODES if node <= node_nm)
    above = min(node for node in NODES if node >= node_nm)
    low, high = (_polynomial(node, voltage) for node in (below, above))
    return low if below == above else low + (high - low) * (node_nm - below) / (above - below)


def _polynomial(node: int, voltage: float) -> float:
    """Evaluate the fit of a listed node."""
    a, b, c = COEFFICIENTS[node]
    return a * voltage**2 + b * voltage + c


def scaling(from_nm: float, from_v: float, to_nm: float, to_v: float) -> Scaling:
    """Return the scaling from one technology to another.

    Args:
        from_nm: node of the table, in nm.
        from_v: supply of the table, in V.
        to_nm: node wanted.
        to_v: supply wanted.

    Raises:
        UsageError: a node or voltage is outside the law's range.
    """
    factor = relative_energy(to_nm, to_v) / relative_energy(from_nm, from_v)
    return Scaling(from_nm, from_v, to_nm, to_v, factor)
