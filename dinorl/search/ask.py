"""Asks Optuna for the next trial, through Ray Tune's searcher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import optuna
from ray import tune
from ray.tune.search.optuna import OptunaSearch

from dinorl.search.journal import CONTINUE, PRUNE, Entry
from dinorl.search.judge import SCORE
from dinorl.search.space import Axis, Space, Values, rounded

_ATTEMPTS = 50  # to be given a trial that is not there yet


def ask(space: Space, trials: Sequence[Values], entries: Sequence[Entry], seed: int) -> Values | None:
    """Return the values of the next trial; None if Optuna gives only trials that are there already.

    Each time a new sampler is told every trial that is over. So an answer depends on the journal alone, and a search
    that was killed asks for the same trials as one that was not.

    Args:
        space: of the search.
        trials: values of all trials so far.
        entries: of the journal.
        seed: of the search.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    domains = OptunaSearch.convert_search_space({axis.key: _domain(axis) for axis in space.axes})
    for attempt in range(_ATTEMPTS):
        searcher = OptunaSearch(
            domains, metric=SCORE, mode="max", seed=seed + _ATTEMPTS * len(trials) + attempt
        )  # fmt: skip
        for number, values in enumerate(trials):
            _tell(searcher, space, values, [entry for entry in entries if entry.report.trial == number])
        given: Any = searcher.suggest("next")
        answer = {axis.key: _text(axis, given[axis.key]) for axis in space.axes}
        if answer not in trials:
            return answer
    return None


def _tell(searcher: OptunaSearch, space: Space, values: Values, entries: Sequence[Entry]) -> None:
    """Tell a searcher of a trial that is over."""
    scores = [entry.report.score for entry in entries if entry.report.scores]
    if not scores or entries[-1].decision == CONTINUE or entries[-1].report.failed:
        return
    parameters = {axis.key: _value(axis, values[axis.key]) for axis in space.axes}
    pruned = entries[-1].decision == PRUNE
    searcher.add_evaluated_point(parameters, scores[-1], pruned=pruned, intermediate_values=scores)


def _domain(axis: Axis) -> Any:
    """Return an axis as Tune's domain."""
    interval = axis.interval
    if interval is None:
        return tune.choice(list(axis.choices))
    if interval.whole:
        low, high = int(interval.low), int(interval.high) + 1
        return tune.lograndint(low, high) if interval.log else tune.randint(low, high)
    return (tune.loguniform if interval.log else tune.uniform)(interval.low, interval.high)


def _value(axis: Axis, text: str) -> Any:
    """Return a value as Optuna has it."""
    if axis.interval is None:
        return text
    return int(text) if axis.interval.whole else float(text)


def _text(axis: Axis, value: Any) -> str:
    """Return a value as typed."""
    return str(value) if axis.interval is None else rounded(axis.interval, value)
