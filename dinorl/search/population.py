"""Population based training (Jaderberg et al. 2017, "Population Based Training of Neural Networks").

Trials are the members of a population. All train to the same environment steps and pause there. Then the worst resume
from bundles of the best, with changed values. The rules are those of Ray Tune's PopulationBasedTraining, which itself
needs Tune's checkpoints and forgets its population when it is killed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dinorl.config import Config, ConfigError, SearchConfig
from dinorl.search.journal import CONTINUE, END, Exchange, Journal, Report, Takeover
from dinorl.search.space import Axis, Values, rounded
from dinorl.tasks.parameters import weight_keys

# Ray Tune's defaults: perturbation_factors, resample_probability.
FACTORS = (0.8, 1.2)
RESAMPLED = 0.25
_ATTEMPTS = 50  # to find values that no other member trains with from the same bundle


@dataclass(frozen=True)
class Change:
    """Values that a policy was trained with from some steps on."""

    steps: int
    trial: int
    values: Values


class Population:
    """Decides who trains and who takes over whom. Its state is the journal alone.

    Args:
        axes: of the space.
        initial: values of each member at the start.
        options: of the search.
        grace: environment steps before the first exchange.
        budget: environment steps of a member.
        journal: of the search.
    """

    def __init__(
        self, axes: Sequence[Axis], initial: Sequence[Values], options: SearchConfig, grace: int, budget: int,
        journal: Journal,
    ) -> None:  # fmt: skip
        self._axes, self._initial, self._options = axes, initial, options
        self._grace, self._budget, self._journal = grace, budget, journal
        self._interval = interval(options, budget)
        self._begun = len(journal.entries)  # by earlier commands

    @property
    def goal(self) -> int | None:
        """Environment steps to pause at; None: train to the end."""
        exchanges = self._journal.exchanges
        after = max(exchanges[-1].steps if exchanges else 0, self._grace - 1)
        goal = (after // self._interval + 1) * self._interval
        return goal if goal < self._budget else None

    def values(self, trial: int) -> Values:
        """Return a member's values now."""
        return schedule(self._initial, self._journal.exchanges, trial)[-1].values

    def most(self) -> int:
        """Return how often members can be started, at most."""
        return len(self._initial) * (self._budget // self._interval + 1)

    def rounds(self, take_over: Callable[[Takeover], None]) -> Iterator[int | None]:
        """Yield members to start, each to train to :attr:`goal`; None while others do.

        Args:
            take_over: puts a bundle in its place; after a kill, again.
        """
        while True:
            for exchange in self._journal.exchanges[self._journal.complete :]:
                for one in exchange.takeovers:
                    take_over(one)
                self._journal.complete_exchange()
            yield from self._behind()
            while self._behind():
                yield None
            reached = self._reached()
            if self.goal is None or not reached:
                return
            self._journal.begin_exchange(self._exchange(reached))

    def pauses(self, report: Report) -> bool:
        """Return whether a member that goes on pauses at a report."""
        return self.goal is not None and report.steps >= self.goal

    def _since(self) -> int:
        """Return the number of reports before the last exchange."""
        exchanges = self._journal.exchanges
        return exchanges[-1].after if exchanges else 0

    def _reached(self) -> dict[int, Report]:
        """Return the reports at the goal, by member."""
        entries = self._journal.entries[self._since() :]
        return {e.report.trial: e.report for e in entries if e.decision == CONTINUE and self.pauses(e.report)}

    def _failed(self) -> list[int]:
        """Return the members that failed since the last exchange and in this command; those of earlier ones retry."""
        entries = self._journal.entries[max(self._since(), self._begun) :]
        return sorted({entry.report.trial for entry in entries if entry.report.failed})

    def _behind(self) -> list[int]:
        """Return the members that have not reached the goal, are not over and have not failed."""
        over = {e.report.trial for e in self._journal.entries if e.decision == END and not e.report.failed}
        there = over.union(self._reached(), self._failed())
        return [trial for trial in range(len(self._initial)) if trial not in there]

    def _exchange(self, reached: dict[int, Report]) -> Exchange:
        """Return who takes over whom: the lower quantile members of the upper one, and failed members too."""
        failed = self._failed()
        ranked = sorted(reached, key=lambda trial: (reached[trial].score, trial))
        size = len(failed) + len(ranked)
        count = min(math.ceil(self._options.quantile * size), size // 2)
        lower = [*failed, *ranked][: max(count, len(failed))]
        upper = [trial for trial in ranked[-max(count, 1) :] if trial not in lower]
        steps = max(report.steps for report in reached.values())
        takeovers: list[Takeover] = []
        for trial in lower:
            random = np.random.default_rng((self._options.seed, trial, steps))
            source = upper[random.integers(len(upper))]
            before = self.values(source)
            same = [before, *(one.values for one in takeovers if one.source == source)]  # would train alike
            for _ in range(_ATTEMPTS):
                values = {axis.key: explore(axis, before[axis.key], random) for axis in self._axes}
                if values not in same:
                    break
            takeovers.append(Takeover(trial, source, values))
        return Exchange(steps, tuple(takeovers), len(self._journal.entries))


def interval(options: SearchConfig, budget: int) -> int:
    """Return the environment steps between exchanges."""
    return options.interval or max(1, budget // 10)


def schedule(initial: Sequence[Values], exchanges: Sequence[Exchange], trial: int) -> list[Change]:
    """Return the values that a member's policy was trained with, in order; some of them as another member."""
    changes = []
    for exchange in reversed(exchanges):
        for one in exchange.takeovers:
            if one.trial == trial:
                changes.append(Change(exchange.steps, trial, one.values))
                trial = one.source
                break
    return [Change(0, trial, initial[trial]), *reversed(changes)]


def explore(axis: Axis, value: str, random: np.random.Generator) -> str:
    """Return another value near ``value``, or one drawn anew.

    A choice moves to a neighbour; a number is multiplied by one of :data:`FACTORS` and clipped.
    """
    if axis.interval is None:
        place = axis.choices.index(value)
        near = [axis.choices[i] for i in (place - 1, place + 1) if 0 <= i < len(axis.choices)]
    else:
        moved = [_moved(float(value), factor, axis.interval.whole) for factor in FACTORS]
        near = [text for text in (rounded(axis.interval, number) for number in moved) if float(text) != float(value)]
    if not near or random.random() < RESAMPLED:
        return axis.draw(random)
    return near[random.integers(len(near))]


def _moved(value: float, factor: float, whole: bool) -> float:
    """Return a number times a factor; a whole number moves by 1 at least."""
    moved = value * factor
    if not whole:
        return moved
    return round(moved) if round(moved) != value else value + math.copysign(1.0, factor - 1.0)


def check_population(first: Config, axes: Sequence[Axis], options: SearchConfig, stages: int) -> None:
    """Check that a population can be trained.

    Args:
        first: config of a member's stage.
        axes: of the space.
        options: of the search.
        stages: of a member.

    Raises:
        ConfigError: an option or a key of the space does not allow it.
    """
    algorithm, name = first.algorithm, first.algo.name
    live = [f"{name}.{key}" for key in algorithm.live]
    weights = [] if algorithm.keeps_rewards else [f"env.{key}" for key in weight_keys(first.species.event.keys)]
    for axis in axes:
        if axis.setting.name not in {*live, *weights}:
            raise ConfigError(
                "cannot change while a stage is trained, as search.scheduler=pbt does", key=axis.key,
                expected=f"one of {', '.join(live)}" + (", or a reward weight" if weights else ""),
                hint=f"Type {axis.key}={axis.choices[0]}, or search.scheduler=asha",
            )  # fmt: skip
    wrong = {
        "search.algorithm": (options.algorithm == "optuna", options.algorithm, "random"),
        "search.seeds": (options.seeds > 1, options.seeds, 1),
        "search.samples": (options.algorithm == "random" and options.samples < 2, options.samples, 8),
        f"{name}.save_replay_buffer": (not getattr(algorithm, "save_replay_buffer", True), "false", "true"),
        "search.interval": (interval(options, 10 * first.eval.every) < first.eval.every, options.interval, None),
    }
    for key, (found, value, instead) in wrong.items():
        if found:
            hint = f"Type {key}={first.eval.every if instead is None else instead}"
            raise ConfigError("does not fit search.scheduler=pbt", key=key, found=str(value), hint=hint)
    if stages > 1:
        raise ConfigError(
            f"a trial has {stages} stages, and search.scheduler=pbt trains one", key=axes[0].key,
            hint="Type stage=… for one stage, or the last stage's number before each key, such as 3.ppo.learning_rate",
        )  # fmt: skip
