"""What a search has found: its trials in order, the steps it saved, and which keys matter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dinorl.config import SearchConfig
from dinorl.files.run_folder import read_status
from dinorl.search.importance import Importance, importance
from dinorl.search.journal import END, PRUNE, Entry, Journal
from dinorl.search.population import Change, schedule
from dinorl.search.score import score, together
from dinorl.search.space import Axis, Values
from dinorl.search.trials import Trial, Trials

FINISHED, PASSED, PRUNED, FAILED, UNFINISHED = "finished", "passed", "pruned", "failed", "unfinished"
_ORDER = (PASSED, FINISHED, PRUNED, UNFINISHED, FAILED)


@dataclass(frozen=True)
class Row:
    """One trial's outcome."""

    trial: Trial
    outcome: str
    steps: int  # environment steps per seed
    score: float  # the best bundle's if the trial is over, else the last
    trained: int  # environment steps of all seeds
    curve: tuple[tuple[int, float], ...] = ()  # (steps, score) of every report
    error: str = ""
    schedule: tuple[Change, ...] = ()  # of its policy, in a population; the trial's values are the last


@dataclass(frozen=True)
class Outcome:
    """The outcome of a search.

    Attributes:
        rows: the best trial first.
        trained: environment steps of all trials.
        unpruned: at most so many without pruning.
        common: environment steps that every trial reached, where keys are compared.
        importance: of the keys; None: too few trials, or their values have changed.
        takeovers: in a population; None: it is none.
    """

    rows: list[Row]
    trained: int
    unpruned: int
    common: int
    importance: list[Importance] | None
    failed: list[int] = field(default_factory=list)
    takeovers: int | None = None

    @classmethod
    def of(
        cls, trials: Trials, axes: Sequence[Axis], journal: Journal, folder: Path, options: SearchConfig
    ) -> Outcome:  # fmt: skip
        """Read the outcome from the journal and the run folders."""
        entries: dict[int, list[Entry]] = {}
        for entry in journal.entries:
            entries.setdefault(entry.report.trial, []).append(entry)
        rows = [_row(trial, entries.get(trial.number, []), trials, folder, options) for trial in trials.each]
        population = options.scheduler == "pbt"
        if population:
            initial = [trial.values for trial in trials.each]
            rows = [_scheduled(row, schedule(initial, journal.exchanges, row.trial.number)) for row in rows]
        whole = sum(trials.budgets) * options.seeds
        over = (PASSED, FINISHED)
        compared = [row for row in rows if row.curve]
        common = min((row.curve[-1][0] for row in compared), default=0)
        values: list[Values] = [row.trial.values for row in compared]
        scores = [next(score for steps, score in row.curve if steps >= common) for row in compared]
        return cls(
            sorted(rows, key=_rank),
            sum(row.trained for row in rows),
            sum(row.trained if row.outcome in over else whole for row in rows),
            common,
            None if population else importance(axes, values, scores),
            [row.trial.number for row in rows if row.outcome in (FAILED, UNFINISHED)],
            sum(len(exchange.takeovers) for exchange in journal.exchanges) if population else None,
        )

    @property
    def best(self) -> Row | None:
        """The best trial that was not cut short, or None."""
        row = self.rows[0]
        return row if row.outcome in (PASSED, FINISHED) else None

    def prunings(self) -> list[tuple[int, int]]:
        """Return how many trials were pruned at which environment steps."""
        return sorted(Counter(row.steps for row in self.rows if row.outcome == PRUNED).items())

    def metrics(self) -> dict[str, float]:
        """Return numbers for MLflow."""
        best = {} if self.best is None else {"search/best_score": self.best.score}
        pruned = sum(number for _, number in self.prunings())
        return best | {
            "search/trials": float(len(self.rows)), "search/pruned": float(pruned),
            "search/steps": float(self.trained), "search/steps_unpruned": float(self.unpruned),
        }  # fmt: skip

    def tags(self) -> dict[str, str]:
        """Return tags for MLflow: the best trial and its values."""
        if self.best is None:
            return {}
        return {"best_trial": self.best.trial.name} | {f"best.{k}": v for k, v in self.best.trial.values.items()}


def _row(trial: Trial, entries: Sequence[Entry], trials: Trials, folder: Path, options: SearchConfig) -> Row:
    if not entries:
        return Row(trial, UNFINISHED, 0, 0.0, 0)
    last = entries[-1]
    reports = [entry.report for entry in entries if not entry.report.failed]
    curve = tuple((report.steps, report.score) for report in reports)
    value = reports[-1].score if reports else 0.0
    if last.report.failed:
        outcome = FAILED
    elif last.decision == PRUNE:
        outcome = PRUNED
    elif last.decision == END:
        outcome = PASSED if last.report.passed else FINISHED
        value = _best_score(trial, folder, options.metric, value)
    else:
        outcome = UNFINISHED
    steps = reports[-1].steps if reports else 0
    return Row(trial, outcome, steps, value, max(e.report.trained for e in entries), curve, last.report.failed)


def _scheduled(row: Row, changes: Sequence[Change]) -> Row:
    """Return a row of a population's member, with its policy's values."""
    return replace(row, trial=replace(row.trial, values=changes[-1].values), schedule=tuple(changes))


def _best_score(trial: Trial, folder: Path, metric: str, last: float) -> float:
    """Return the score of the bundles that a trial leaves, the best of each seed."""
    states = [read_status(folder / lineage.jobs[-1].folder) or {} for lineage in trial.lineages]
    found = [state.get("evaluation") for state in states]
    return together([score(one, metric) for one in found if one]) if all(found) else last


def _rank(row: Row) -> tuple[int, int, float]:
    """Sort by outcome, for pruned ones by how far they came, and by score."""
    return _ORDER.index(row.outcome), -row.steps if row.outcome == PRUNED else 0, -row.score
