"""Running sums over the iterations, and what they come to."""

import math

import numpy as np

from fastuq.kernels.compiled import kernel
from fastuq.kernels.elementwise import SOFTMAX, activate_in_place


@kernel
def accumulate(p, pivot, sum1, sum2, first, count):
    """Add one iteration to the running sums of p - pivot and its square; the first iteration is the pivot.

    The pivot keeps the variance free of cancellation, float64 keeps it exact enough for 100,000 iterations.
    """
    if first:
        for i in range(count):
            pivot[i] = p[i]
            sum1[i] = 0.0
            sum2[i] = 0.0
    else:
        for i in range(count):
            d = np.float64(p[i]) - np.float64(pivot[i])
            sum1[i] += d
            sum2[i] += d * d


@kernel
def absorb(z, iterations, activation, classes, lanes, pivot, sum1, sum2, first):
    """Activate the outputs z[iterations][classes * lanes] of several iterations and add them to the running sums.

    It goes class by class, so that the sums of one class stay in the near cache for all the iterations. `first` tells
    whether the first of these iterations is the first of all.
    """
    if activation == SOFTMAX:
        for t in range(iterations):
            activate_in_place(z[t], activation, classes, lanes)
    for c in range(classes):
        part = slice(c * lanes, (c + 1) * lanes)
        centre, once, twice = pivot[part], sum1[part], sum2[part]
        for t in range(iterations):
            p = z[t, part]
            if activation != SOFTMAX:
                activate_in_place(p, activation, 1, lanes)
            accumulate(p, centre, once, twice, first and t == 0, lanes)


@kernel
def accumulate_entropy(p, activation, classes, lanes, total):
    """Add the predictive entropy (nats) of one iteration, p[classes][lanes], to total[lanes] (float64).

    Softmax: -sum p ln p. Otherwise the classes count as independent yes/no events: sum of -p ln p - (1-p) ln(1-p).
    """
    for c in range(classes):
        for s in range(lanes):
            value = np.float64(p[c * lanes + s])
            if value > 0:
                total[s] -= value * math.log(value)
            if activation != SOFTMAX and value < 1:
                total[s] -= (1 - value) * math.log(1 - value)


@kernel
def finish(pivot, sum1, sum2, iterations, classes, places, mean, std):
    """Write mean and standard deviation (ddof 0) of each sample to a row of mean, std (samples, classes).

    Sample s is lane places[s] of len(places) in pivot, sum1, sum2 [classes][lanes].
    """
    lanes = len(places)
    for s in range(len(mean)):
        for c in range(classes):
            i = c * lanes + places[s]
            shift = sum1[i] / iterations
            mean[s, c] = np.float32(np.float64(pivot[i]) + shift)
            std[s, c] = np.float32(math.sqrt(max(sum2[i] / iterations - shift * shift, 0.0)))
