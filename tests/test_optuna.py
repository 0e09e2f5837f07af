"""Asking Optuna for trials; it is no dependency."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from dinorl.config.overrides import read_settings
from dinorl.search.journal import Entry, Report
from dinorl.search.space import Space, Values

pytest.importorskip("optuna", reason="Optuna is not installed: pip install optuna")

SPACE = Space.of(
    read_settings(
        OverridesParser.create().parse_overrides(
            ["ppo.learning_rate=tag(log,interval(1e-5,1e-1))", "ppo.n_epochs=int(interval(2,8))", "ppo.gamma=0.9,0.99"]
        ),
        search=True,
    )[0]
)


def over(trial: int, score: float, decision: str = "end") -> list[Entry]:
    return [
        Entry(Report(trial, 100, (score - 1.0,), score - 1.0), "continue"),
        Entry(Report(trial, 200, (score,), score, finished=decision == "end"), decision),
    ]


def distance(values: Values, best: float) -> float:
    return abs(math.log(float(values["ppo.learning_rate"]) / best))


def asked(count: int, seed: int = 0, best: float = 1e-3) -> list[Values]:
    """Ask for trials one after another; those far from the best learning rate are pruned."""
    from dinorl.search.ask import ask

    trials: list[Values] = []
    entries: list[Entry] = []
    for number in range(count):
        values = ask(SPACE, trials, entries, seed)
        assert values is not None
        trials.append(values)
        far = distance(values, best)
        entries += over(number, -far, "prune" if far > 3.0 else "end")
    return trials


def test_answers_lie_in_space() -> None:
    trials = asked(6)
    assert all(1e-5 <= float(values["ppo.learning_rate"]) <= 1e-1 for values in trials)
    assert all(values["ppo.n_epochs"] in "2345678" and values["ppo.gamma"] in ("0.9", "0.99") for values in trials)
    assert len({tuple(values.values()) for values in trials}) == 6


def test_answers_depend_on_journal() -> None:
    first = asked(3)
    assert asked(3) == first, "a resumed search would ask for others"
    assert asked(3, seed=1) != first


@pytest.mark.parametrize("best", [3e-5, 3e-2])
def test_optuna_learns_from_scores(best: float) -> None:
    far = [distance(values, best) for values in asked(25, best=best)]
    assert np.mean(far[15:]) < 0.5 * np.mean(far[:10]), "asks as if it knew no score"


def test_small_space_ends() -> None:
    from dinorl.search.ask import ask

    two = Space.of(read_settings(OverridesParser.create().parse_overrides(["ppo.gamma=0.9,0.99"]), search=True)[0])
    trials: list[Values] = [{"ppo.gamma": "0.9"}, {"ppo.gamma": "0.99"}]
    assert ask(two, trials, [*over(0, 1.0), *over(1, 2.0)], 0) is None
