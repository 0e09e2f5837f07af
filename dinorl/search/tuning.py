"""Runs the trials on Ray Tune: it starts and stops them, and starts those again whose process died."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from omegaconf import DictConfig
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from dinorl.config import ConfigError
from dinorl.files.run_folder import SweepFiles
from dinorl.search.journal import CONTINUE, Report
from dinorl.search.score import score, together
from dinorl.search.stages import SeedRun, StageFailed, advance_together, steps_together
from dinorl.sweep import isolate
from dinorl.sweep.ray_workers import connect, machines_without

# The journal is the search's; Tune writes nothing that is read again.
_QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
}


@dataclass(frozen=True)
class Spec:
    """What an actor needs to run a trial."""

    number: int
    metric: str  # scored
    seeds: tuple[tuple[DictConfig, ...], ...]  # configs of the stages, with Hydra's
    until: int | None = None  # environment steps, to pause at; None: train to the end


class Trial(tune.Trainable):
    """A trial: a step trains every seed until its next evaluation, and pauses them at ``Spec.until``."""

    def setup(self, config: dict[str, Any]) -> None:
        """Begin or resume the trial; its stages resume from their own bundles."""
        isolate.prepare()
        self._spec: Spec = config["spec"]
        self._seeds = [SeedRun(stages) for stages in self._spec.seeds]

    def step(self) -> dict[str, Any]:
        """Train until the next evaluation and report it."""
        seeds, failed = self._seeds, ""
        try:
            advance_together(seeds)
            if self._spec.until is not None and steps_together(seeds) >= self._spec.until:
                for seed in seeds:
                    seed.pause()
        except StageFailed as error:
            failed = str(error) or "failed"
        scores = tuple(score(seed.metrics, self._spec.metric) for seed in seeds if seed.metrics)
        finished = all(seed.finished for seed in seeds)
        report = Report(
            self._spec.number, steps_together(seeds), scores, together(scores) if scores else 0.0,
            sum(seed.trained for seed in seeds), finished and all(seed.passed for seed in seeds), finished, failed,
        )  # fmt: skip
        return {"report": report}

    def cleanup(self) -> None:
        """End the stages that still run as PRUNED."""
        for seed in self._seeds:
            seed.stop()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Run another trial in this actor."""
        self.cleanup()
        self.setup(new_config)
        return True


class Deciding(FIFOScheduler):
    """Passes reports to the judge, and its decisions to Tune.

    Args:
        receive: takes a report and returns the decision.
    """

    def __init__(self, receive: Callable[[Report], str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._receive = receive

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Return whether the trial goes on."""
        goes_on = self._receive(result["report"]) == CONTINUE
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)


class Failures(tune.Callback):
    """Reports trials whose retries are used up; the scheduler's own hook is called at every failure.

    Args:
        receive: takes a report and returns the decision.
    """

    def __init__(self, receive: Callable[[Report], str]) -> None:
        self._receive = receive

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Report the failure."""
        error = trial.get_pickled_error()
        cause = getattr(error, "cause", None) or error
        text = next(iter(str(cause).splitlines()), "")
        self._receive(Report(trial.config["spec"].number, 0, failed=f"{type(cause).__name__}: {text}"))


class Giving(Searcher):
    """Gives Tune the trials.

    Args:
        specs: of the trials, in order; asked for one when it can start. None: there is none yet.
    """

    def __init__(self, specs: Iterator[Spec | None]) -> None:
        super().__init__()
        self._specs = specs

    def suggest(self, trial_id: str) -> Any:
        """Return the next trial's config."""
        spec = next(self._specs, Searcher.FINISHED)
        return {"spec": spec} if isinstance(spec, Spec) else spec

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Do nothing: the judge knows."""

    def save(self, checkpoint_path: str) -> None:
        """Write an empty file: Tune restores nothing."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing."""


def run_trials(
    specs: Iterator[Spec | None], count: int, receive: Callable[[Report], str], cpus: int, jobs: int | None,
    retries: int,
) -> None:  # fmt: skip
    """Run trials to their ends.

    Args:
        specs: of the trials; see :class:`Giving`.
        count: their number, at most.
        receive: takes a report and returns its decision.
        cpus: per trial.
        jobs: trials at once; None: as many as the CPUs allow.
        retries: of a trial whose process died.
    """
    with tempfile.TemporaryDirectory(prefix="dinorl-tune-") as scratch:
        # the Tuner would pickle the searcher and the scheduler
        tune.run(
            Trial,
            name="search",
            num_samples=count,
            search_alg=Giving(specs),
            scheduler=Deciding(receive),
            callbacks=[Failures(receive)],
            resources_per_trial={"cpu": cpus},
            max_concurrent_trials=jobs,
            reuse_actors=True,
            max_failures=retries,
            raise_on_failed_trial=False,
            storage_path=scratch,
            trial_dirname_creator=lambda trial: trial.trial_id,
            verbose=0,
        )


@contextmanager
def ray_running(launcher: DictConfig, cpus: int, folder: Path) -> Iterator[None]:
    """Start Ray on this machine, or join the cluster of ``hydra.launcher.ray.init.address``.

    Args:
        launcher: config of the launcher.
        cpus: of this machine.
        folder: of the search.

    Raises:
        ConfigError: a machine of the cluster does not see the folder.
    """
    for name in ("ray", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ.update({name: value for name, value in _QUIET.items() if name not in os.environ})
    try:
        joined = connect(launcher, num_cpus=cpus, logging_level=logging.ERROR)
        if joined and (without := machines_without(SweepFiles(folder).plan)):
            raise ConfigError(
                f"{', '.join(without)}: {folder} of this machine is not there, and the trials of a search resume in it",
                hint="Run in a folder that all machines share, or without the cluster",
            )
        yield
    finally:
        ray.shutdown()
