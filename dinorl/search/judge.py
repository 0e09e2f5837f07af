"""Decides which trials go on: one of Ray Tune's schedulers, and the journal that brings it back.

Tune's own restore rebuilds a scheduler as it was at the start, without the scores of its rungs. Here every report is in
the journal, and a resumed search feeds them to a new scheduler in their order.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from dinorl.config import SearchConfig
from dinorl.search.journal import CONTINUE, END, PRUNE, Entry, Journal, Report

STEPS, SCORE = "steps", "score"  # of a report to Tune
_SAMPLES = 3  # trials that the median needs


class Judge:
    """Decides on reports.

    Args:
        options: of the search.
        grace: environment steps before a trial can be pruned.
        budget: environment steps of a whole trial, per seed.
        journal: of the search; its entries are fed to the scheduler.
    """

    def __init__(self, options: SearchConfig, grace: int, budget: int, journal: Journal) -> None:
        self._journal, self._budget = journal, budget
        self._scheduler: TrialScheduler = scheduler(options, grace, budget)
        self._rungs = list(rungs(grace, options.reduction, budget)) if options.scheduler == "asha" else []
        self._trials: dict[int, Any] = {}  # as Tune's scheduler needs them
        self._steps: dict[int, int] = {}
        self._known: dict[tuple[int, int], str] = {}
        for entry in journal.entries:
            self._feed(entry.report)
            self._known[entry.report.trial, entry.report.steps] = entry.decision

    def decide(self, report: Report) -> tuple[str, bool]:
        """Decide on a report and write it into the journal.

        A trial that was resumed reports its last evaluation again: that has its decision already.

        Returns:
            The decision, and whether the report is new.
        """
        known = self._known.get((report.trial, report.steps))
        if known is not None and not report.failed:
            return known, False
        decision = self._feed(report)
        self._journal.append(Entry(report, decision))
        if not report.failed:
            self._known[report.trial, report.steps] = decision
        return decision, True

    def _feed(self, report: Report) -> str:
        """Return the scheduler's decision; a trial that is over needs none."""
        if report.failed:
            return END
        if report.trial not in self._trials:
            self._trials[report.trial] = SimpleTrial(report.trial)
            self._scheduler.on_trial_add(_CONTROLLER, self._trials[report.trial])
        trial, before = self._trials[report.trial], self._steps.get(report.trial, 0)
        self._steps[report.trial] = report.steps
        # A stage that passes early skips rungs, as do rare evaluations: its score stands there
        skipped = [rung for rung in self._rungs if before < rung <= report.steps][:-1]
        for rung in skipped:
            self._tell(trial, rung, report.score)
        if not report.finished:
            stops = self._tell(trial, report.steps, report.score) == TrialScheduler.STOP
            return PRUNE if stops else CONTINUE
        # Others must reach the score of a trial that passed early at later rungs, too
        for rung in (rung for rung in self._rungs if before < rung):
            self._tell(trial, rung, report.score)
        self._scheduler.on_trial_complete(_CONTROLLER, trial, {STEPS: self._budget, SCORE: report.score})
        return END

    def _tell(self, trial: Any, steps: float, score: float) -> str:
        return str(self._scheduler.on_trial_result(_CONTROLLER, trial, {STEPS: steps, SCORE: score}))


class SimpleTrial:
    """What Tune's schedulers need of a trial: its id.

    Args:
        number: of the trial.
    """

    def __init__(self, number: int) -> None:
        self.trial_id = str(number)


# Nothing waits, so the median rule pauses nothing.
_CONTROLLER: Any = SimpleNamespace(get_live_trials=lambda: [])


def rungs(grace: int, reduction: float, budget: int) -> Iterator[float]:
    """Yield the environment steps of ASHA's rungs, as Tune counts them."""
    for k in itertools.count():
        rung = grace * reduction**k
        if rung >= budget:
            return
        yield rung


def scheduler(options: SearchConfig, grace: int, budget: int) -> Any:
    """Return Tune's scheduler, which counts environment steps."""
    common: dict[str, Any] = {"time_attr": STEPS, "metric": SCORE, "mode": "max"}
    if options.scheduler == "asha":
        return AsyncHyperBandScheduler(**common, max_t=budget, grace_period=grace, reduction_factor=options.reduction)
    if options.scheduler == "median":
        return MedianStoppingRule(**common, grace_period=grace, min_samples_required=_SAMPLES)
    return FIFOScheduler()  # type: ignore[no-untyped-call]
