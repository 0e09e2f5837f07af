"""The space of a search: its keys, its draws, and what it may not hold."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dinorl.config import POLICY_HANDED_OVER, STAGES, ConfigError, SearchConfig
from dinorl.config.overrides import Interval, Setting, number_text
from dinorl.sweep.plan import Job

# Values by the key as typed, in the space's order.
Values = dict[str, str]
# Keys that would change what trials are compared by, with what to type.
_FIXED = {
    "seed": "Type search.seeds=3 for several seeds a trial",
    "species": "Search one animal at a time",
    "stage": "Search one stage at a time",
}
_FIXED_NODES = ("species", "eval", "tracking", "sim.threads", "curriculum.timesteps", "warm_start", "resume")
_ATTEMPTS = 1000  # to draw a trial that is not there yet


@dataclass(frozen=True)
class Axis:
    """One key of the space."""

    setting: Setting

    @property
    def key(self) -> str:
        """The key as typed."""
        return self.setting.typed

    @property
    def interval(self) -> Interval | None:
        """Its interval; None for choices."""
        return self.setting.interval

    @property
    def choices(self) -> tuple[str, ...]:
        """Its values; of an interval, the ends."""
        return tuple(str(value) for value in self.setting.values)

    def draw(self, random: np.random.Generator) -> str:
        """Return a value drawn uniformly, or uniformly in its logarithm."""
        if self.interval is None:
            return self.choices[random.integers(len(self.choices))]
        return interval_value(self.interval, random.random())

    @cached_property
    def numeric(self) -> bool:
        """Whether all its values are numbers."""
        try:
            [float(choice) for choice in self.choices]
        except ValueError:
            return False
        return True

    def number(self, value: str) -> float:
        """Return a value as a number; of choices that are not all numbers, its position."""
        return float(value) if self.numeric else float(self.choices.index(value))

    @property
    def log(self) -> bool:
        """Whether it is drawn uniformly in its logarithm."""
        return self.interval is not None and self.interval.log

    def text(self) -> str:
        """Return its values for people."""
        if self.interval is None:
            return ", ".join(self.choices)
        low, high = self.choices
        kind = " ".join(word for word, on in (("log", self.interval.log), ("int", self.interval.whole)) if on)
        return f"{low} … {high}" + (f" ({kind})" if kind else "")


def interval_value(interval: Interval, share: float) -> str:
    """Return the value at a share, in [0, 1), of an interval."""
    low, high = interval.low, interval.high + (1.0 if interval.whole else 0.0)
    if interval.log:
        value = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
    else:
        value = low + share * (high - low)
    if interval.whole:
        value = math.floor(value)
    return rounded(interval, value)


def rounded(interval: Interval, value: float) -> str:
    """Return a number as typed, within an interval."""
    inside = min(max(float(number_text(value, interval.whole)), interval.low), interval.high)
    return number_text(inside, interval.whole)


@dataclass(frozen=True)
class Space:
    """The keys that a search varies."""

    axes: tuple[Axis, ...]

    @classmethod
    def of(cls, settings: Sequence[Setting]) -> Space:
        """Return the space of the swept settings.

        Raises:
            ConfigError: there is none, or a key cannot be searched.
        """
        axes = tuple(Axis(setting) for setting in settings if setting.swept)
        if not axes:
            raise ConfigError(
                "hydra/sweeper=search: there is nothing to search",
                hint="Give a key several values, such as 'ppo.learning_rate=tag(log,interval(1e-4,3e-3))'",
            )
        for axis in axes:
            name = axis.setting.name
            if name in _FIXED or any(name == node or name.startswith(f"{node}.") for node in _FIXED_NODES):
                hint = _FIXED.get(name, f"Type {axis.key}={axis.choices[0]}")
                raise ConfigError("cannot be searched: all trials of a search have the same", key=axis.key, hint=hint)
        return cls(axes)

    @property
    def first_stage(self) -> str | None:
        """The first stage that the space changes; None: the first that runs."""
        scopes = [axis.setting.scope for axis in self.axes]
        return None if None in scopes else min((str(scope) for scope in scopes), key=STAGES.index)

    def size(self) -> float:
        """Return the number of combinations; infinite with an interval."""
        return math.prod(math.inf if axis.interval else len(axis.choices) for axis in self.axes)

    def ends(self) -> Iterator[Values]:
        """Yield the first values, and each other value (of an interval, end) beside them."""
        first = {axis.key: axis.choices[0] for axis in self.axes}
        yield first
        for axis in self.axes:
            for value in axis.choices[1:]:
                yield first | {axis.key: value}

    def draw(self, options: SearchConfig) -> list[Values]:
        """Return every trial of a random or grid search, each once; more samples only add to them.

        Raises:
            ConfigError: a grid has an interval.
        """
        if options.algorithm == "grid":
            for axis in self.axes:
                if axis.interval is not None:
                    raise ConfigError(
                        "a grid needs values that can be counted, found an interval", key=axis.key,
                        hint=f"Type {axis.key}={axis.choices[0]},{axis.choices[1]}, or search.algorithm=random",
                    )  # fmt: skip
            keys = [axis.key for axis in self.axes]
            product = itertools.product(*(axis.choices for axis in self.axes))
            return [dict(zip(keys, values, strict=True)) for values in product]
        random = np.random.default_rng(options.seed)
        drawn: dict[tuple[str, ...], Values] = {}
        for _ in range(_ATTEMPTS * options.samples):
            if len(drawn) >= min(options.samples, self.size()):
                break
            values = {axis.key: axis.draw(random) for axis in self.axes}
            drawn.setdefault(tuple(values.values()), values)
        return list(drawn.values())

    def check_warm_start(self, first: Job) -> None:
        """Check that the space has no key that a policy handed over to the trials' first stage fixes.

        Raises:
            ConfigError: it has one.
        """
        config = first.config
        if config.curriculum.hand_over not in POLICY_HANDED_OVER or not (first.parent or config.warm_start):
            return
        algorithm = config.algo.name
        fixed = {"algo", *(f"{algorithm}.policy_kwargs.{key}" for key in config.algorithm.handed_over)}
        start = config.warm_start if first.parent is None else first.parent.title
        for axis in self.axes:
            if axis.setting.name in fixed and axis.setting.scope in (None, first.stage):
                raise ConfigError(
                    f"the policy that every trial starts from ({start}) fixes it, so it cannot be searched",
                    key=axis.key, hint="Remove it, or start without that policy: curriculum.hand_over=nothing",
                )  # fmt: skip
