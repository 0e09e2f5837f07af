"""The statistics of few runs, beside rliable's numbers and plain formulas."""

from __future__ import annotations

import itertools
from statistics import NormalDist

import numpy as np
import pytest
from numpy.typing import NDArray

from dinorl.verdicts import statistics
from dinorl.verdicts.statistics import MOST_SEEDS, Interval

# runs x tasks, as rliable takes them
SCORES: dict[str, list[list[float]]] = {
    "x": [[0.1, 0.5], [0.4, 0.7], [0.9, 0.2]],
    "y": [[0.3, 0.6], [0.2, 0.9], [0.5, 0.4], [0.6, 0.8]],
    "u": [[12.0], [15.5], [9.25], [14.0], [11.0], [13.5], [10.0], [19.0]],
    "v": [[10.0], [9.0], [8.5], [12.0], [7.0]],
    "p": [[1.0, 0.0, 0.5], [1.0, 0.25, 0.5], [0.75, 0.0, 0.5], [1.0, 0.125, 0.75], [0.5, 0.5, 0.5]],
    "q": [[1.0, 0.5, 0.25], [0.875, 0.25, 0.5], [1.0, 0.75, 1.0], [0.75, 0.5, 0.625], [1.0, 1.0, 0.5]],
}
# Point, lower and upper end by rliable 1.2.0 (pip install rliable 'pandas<3'), after np.random.seed(0) in this order:
#   iqm = lambda s: np.array([metrics.aggregate_iqm(s)])
#   library.get_interval_estimates({name: np.array(SCORES[name])}, iqm, reps=50000)
IQM = {
    "x": (0.45, 0.225, 0.75),
    "y": (0.525, 0.375, 0.675),
    "u": (12.625, 10.5, 15.5),
    "v": (9.166666666666666, 7.5, 11.333333333333334),
    "p": (0.5277777777777778, 0.4305555555555556, 0.6388888888888888),
    "q": (0.7222222222222222, 0.5833333333333334, 0.875),
}
#   poi = lambda x, y: np.array([metrics.probability_of_improvement(x, y)])
#   library.get_interval_estimates({"k": [np.array(SCORES[x]), np.array(SCORES[y])]}, poi, reps=20000)
IMPROVEMENT = {
    ("x", "y"): (0.375, 0.08333333333333333, 0.7083333333333333),
    ("u", "v"): (0.875, 0.625, 1.0),
    ("p", "q"): (0.34, 0.18000000000000002, 0.5066666666666667),
}


def strata(name: str) -> list[NDArray[np.float64]]:
    return list(np.array(SCORES[name]).T)


@pytest.mark.parametrize("name", IQM)
def test_iqm_is_rliables(name: str) -> None:
    mean, low, high = IQM[name]
    assert statistics.interquartile_mean(np.ravel(SCORES[name])) == pytest.approx(mean)
    found = statistics.interval(strata(name))
    assert found is not None
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.05 * (high - low))


@pytest.mark.parametrize("pair", IMPROVEMENT)
def test_improvement_is_rliables(pair: tuple[str, str]) -> None:
    one, other = map(strata, pair)
    probability, low, high = IMPROVEMENT[pair]
    assert statistics.improvement(one, other) == pytest.approx(probability)
    assert statistics.improvement(other, one) == pytest.approx(1.0 - probability)
    found = statistics.improvement_interval(one, other)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.05 * (high - low))


def test_order_changes_nothing() -> None:
    one, other = strata("u"), strata("v")
    turned = [one[0][::-1]]
    assert statistics.interval(one) == statistics.interval(turned)
    assert statistics.improvement_interval(one, other) == statistics.improvement_interval(turned, other)
    assert statistics.difference_interval(one, other) == statistics.difference_interval(turned, other)


def test_difference_interval_every_resample() -> None:
    """Of two and three runs all resamples can be listed."""
    one, other = [0.2, 0.6], [0.1, 0.5, 0.3]
    means = [[np.mean(drawn) for drawn in itertools.product(scores, repeat=len(scores))] for scores in (one, other)]
    low, high = np.percentile(np.subtract.outer(*means), [2.5, 97.5])
    found = statistics.difference_interval([one], [other])
    assert found is not None
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.02)


def test_one_run_has_no_interval() -> None:
    assert statistics.interval([[1.0, 2.0], [1.0]]) is None
    assert statistics.difference_interval([[1.0]], [[1.0, 2.0]]) is None
    assert statistics.improvement_interval([[1.0, 2.0]], [[1.0]]) is None


def test_chance_of_all_deals() -> None:
    assert statistics.chance([4.0, 5.0, 6.0], [1.0, 2.0, 3.0]) == pytest.approx(2 / 20)
    assert statistics.chance([1.0, 1.0, 1.0], [1.0, 1.0]) == 1.0
    few, many = np.arange(6.0), np.arange(0.0, 6.0, 0.5)
    assert statistics.chance(few, few + 100.0) == pytest.approx(4 / 924), "trimmed ends may change places"
    assert statistics.chance(many, many + 100.0) < 1e-3, "random deals"
    assert statistics.chance(many, many[::-1]) == 1.0


def test_overlap_includes_ends() -> None:
    assert Interval(0.0, 1.0).overlaps(Interval(1.0, 2.0)) and Interval(1.0, 2.0).overlaps(Interval(0.0, 1.0))
    assert Interval(0.0, 3.0).overlaps(Interval(1.0, 2.0))
    assert not Interval(0.0, 1.0).overlaps(Interval(1.1, 2.0))


def spread(runs: int, mean: float) -> NDArray[np.float64]:
    """Return evenly spread quantiles of a normal distribution with deviation 1."""
    quantiles = [NormalDist().inv_cdf((i + 0.5) / runs) for i in range(runs)]
    return np.array(quantiles) / np.std(quantiles, ddof=1) + mean


def test_more_seeds_part_the_intervals() -> None:
    runs, gap = 5, 0.8
    more = statistics.more_seeds(spread(runs, gap), spread(runs, 0.0))
    assert more is not None and 10 < more < MOST_SEEDS

    def apart(count: int) -> bool:
        one, other = statistics.interval([spread(count, gap)]), statistics.interval([spread(count, 0.0)])
        assert one is not None and other is not None
        return not one.overlaps(other)

    assert not apart(runs + more // 2)
    assert apart(runs + 2 * more)


def test_more_seeds_cannot_be_told() -> None:
    assert statistics.more_seeds([1.0, 2.0], [1.0, 2.0]) is None, "no difference"
    assert statistics.more_seeds([1.0], [2.0]) is None, "no spread of one run"
    assert statistics.more_seeds([1.0, 1.0], [2.0, 2.0]) is None, "no spread"
    assert statistics.more_seeds([1.0, 2.0], [1.001, 2.0]) == MOST_SEEDS + 1


def test_band_is_the_interval() -> None:
    curves = np.array([[0.0, 1.0, 5.0], [0.0, 2.0, 5.0], [0.0, 4.0, 6.0], [0.0, 3.0, 9.0], [0.0, 9.0, 7.0]])
    mean, low, high = statistics.band(curves)
    for i, column in enumerate(curves.T):
        found = statistics.interval([column])
        assert found is not None
        assert mean[i] == pytest.approx(statistics.interquartile_mean(column))
        assert (low[i], high[i]) == pytest.approx((found.low, found.high), abs=0.4)
    assert [low[0], high[0]] == [0.0, 0.0]
    again = statistics.band(curves[::-1])
    assert all(np.array_equal(a, b) for a, b in zip((mean, low, high), again, strict=True))
