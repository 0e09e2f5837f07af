"""Measures and names gaits: pure functions on contacts, (steps, n, feet) bool, one row per control step.

Feet are in the order of the species: left and right of each girdle, the front girdle first. Phases are in cycles, 0..1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dinorl.tasks.signals import DEBOUNCE_STEPS, turn_phase

Pairs = Sequence[tuple[int, int]]

PHASE_CLASS = 0.125  # cycles, half of Hildebrand's class width
STABLE = 0.5  # mean resultant length
STANDS = 0.2  # Hz; below, steps only keep balance


def debounced(contact: np.ndarray) -> np.ndarray:
    """Fill gaps of less than ``DEBOUNCE_STEPS`` control steps within a stance."""
    filled = contact.copy()
    for length in range(1, DEBOUNCE_STEPS):
        before, after = contact[: -length - 1], contact[length + 1 :]
        bridged = before & after
        for k in range(length):
            filled[1 + k : 1 + k + bridged.shape[0]] |= bridged
    return filled


def touchdowns(contact: np.ndarray) -> np.ndarray:
    """Return touchdowns: contact now, none a step before. Standing at the start is none."""
    landed = np.zeros_like(contact)
    landed[1:] = contact[1:] & ~contact[:-1]
    return landed


def alternation(landed: np.ndarray, pairs: Pairs) -> float:
    """Return the share of touchdowns that alternate with the pair's other foot.

    The other foot must have landed in between, at least an eighth of the stride from either end: a hop does not count.

    Args:
        landed: (steps, n, feet) touchdowns; a foot's first one does not count.
        pairs: left and right foot of each girdle.
    """
    steps = np.arange(landed.shape[0])[:, None]
    last = _latest(landed)
    before = np.concatenate([np.full_like(last[:1], -1), last[:-1]])
    turns = follow = 0
    for left, right in pairs:
        for own, other in ((left, right), (right, left)):
            ends = landed[..., own] & (before[..., own] >= 0)
            phase = turn_phase(steps, before[..., own], last[..., other])[ends]
            follow += phase.size
            turns += int(((phase >= PHASE_CLASS) & (phase <= 1.0 - PHASE_CLASS)).sum())
    return turns / follow if follow else 0.0


def _latest(landed: np.ndarray) -> np.ndarray:
    """Return the step of the latest touchdown so far, -1 before any."""
    steps = np.arange(landed.shape[0]).reshape(-1, *(1,) * (landed.ndim - 1))
    return np.maximum.accumulate(np.where(landed, steps, -1), axis=0)


def stride_phases(landed: np.ndarray, reference: int, foot: int) -> np.ndarray:
    """Return the phases of a foot's touchdowns in the strides of a reference foot."""
    steps = np.arange(landed.shape[0])[:, None]
    mark = landed[..., reference]
    end = landed.shape[0]
    begun = _latest(mark)
    ends = np.minimum.accumulate(np.where(mark, steps, end)[::-1], axis=0)[::-1]
    ends = np.vstack([ends[1:], np.full((1, mark.shape[1]), end)])  # strictly later
    chosen = landed[..., foot] & (begun >= 0) & (ends < end)
    phases: np.ndarray = ((steps - begun) / np.maximum(ends - begun, 1))[chosen]
    return phases


def circular_mean(phases: np.ndarray) -> tuple[float, float]:
    """Return the mean phase in [0, 1) and the mean resultant length in [0, 1], its stability.

    Fisher 1993, "Statistical Analysis of Circular Data", section 2.3. Without phases both are 0.
    """
    if not phases.size:
        return 0.0, 0.0
    vector = np.exp(2j * np.pi * phases).mean()
    return float(np.angle(vector) / (2.0 * np.pi) % 1.0), float(abs(vector))


def footfalls(landed: np.ndarray, pairs: Pairs) -> dict[str, float]:
    """Return the phases of a gait and the stability of the least stable one.

    Phases, after Hildebrand 1965, "Symmetrical gaits of horses":

    * ``contralateral_phase``: right foot in the left foot's stride; of the hind girdle, if there are two.
    * ``fore_phase``: the same of the front girdle; quadrupeds only.
    * ``ipsilateral_phase``: front foot in the stride of the hind foot on the same side; quadrupeds only.
    """
    left, right = pairs[-1]
    measured = {"contralateral_phase": stride_phases(landed, left, right)}
    if len(pairs) == 2:
        fore_left, fore_right = pairs[0]
        measured["fore_phase"] = stride_phases(landed, fore_left, fore_right)
        measured["ipsilateral_phase"] = np.concatenate(
            [stride_phases(landed, left, fore_left), stride_phases(landed, right, fore_right)]
        )
    means = {name: circular_mean(phases) for name, phases in measured.items()}
    return {name: mean for name, (mean, _) in means.items()} | {
        "phase_stability": min(stability for _, stability in means.values())
    }


def name(gait: Mapping[str, float]) -> str:
    """Return a gait's name from its metrics ``stride_hz``, ``duty_factor``, ``phase_stability`` and the phases.

    Bipeds walk, run, skip or hop; quadrupeds walk, pace, trot, bound or gallop. ``stands``: steps are rare.
    ``irregular``: the feet have no common rhythm.
    """
    if gait["stride_hz"] < STANDS:
        return "stands"
    if gait["phase_stability"] < STABLE:
        return "irregular"
    together = _near(gait["contralateral_phase"], 0.0)
    in_turn = _near(gait["contralateral_phase"], 0.5)
    if "ipsilateral_phase" not in gait:
        if together:
            return "hop"
        if not in_turn:
            return "skip"
        return "walk" if gait["duty_factor"] >= 0.5 else "run"
    if not in_turn:
        return "bound" if together and _near(gait["fore_phase"], 0.0) else "gallop"
    for phase, symmetrical in ((0.0, "pace"), (0.5, "trot")):
        if _near(gait["ipsilateral_phase"], phase):
            return symmetrical
    return "walk"


def _near(phase: float, to: float) -> bool:
    return abs((phase - to + 0.5) % 1.0 - 0.5) <= PHASE_CLASS
