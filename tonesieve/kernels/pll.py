"""Constants of the phase-locked loops that share an oscillator's Kalman filter.

`kernels.kalman.kalman_pll` and the bank in `kernels.kalman_bank.filter` track a tone's frequency in
the same way, so they share these numbers. After n samples, a least-squares fit of phase and
frequency to all of them has the gains 4/n (phase) and 6/n^2 (frequency).

Source: F. M. Gardner, Phaselock Techniques, 3rd ed., Wiley 2005 (loop gains of a second-order PLL).
"""

from __future__ import annotations

# Derived: the frequency gain over the square of the phase gain, (6/n^2) / (4/n)^2.
PLL_GAIN_RATIO = 0.375
# Derived: with q = 24 R/n^2 the variance of a coefficient, dP/dn = q - P^2/(2 R), falls as 8 R/n,
# whose gain is 4/n.
PLL_PROCESS_NOISE = 24.0
# Chosen, not tuned: this many times the variance of a tone's coefficients, over their prior
# variance, counts as uncertainty of the phase; it opens the loop until the tones are resolved.
UNINFORMED_RATIO = 20.0
