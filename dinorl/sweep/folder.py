"""A sweep's folder: its jobs, which of them are done, and its lock."""

from __future__ import annotations

import contextlib
import json
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dinorl.config import ConfigError
from dinorl.config.identity import old_job_key, trained_on
from dinorl.files.run_folder import (
    BundleFolder,
    RunFolder,
    SweepFiles,
    TrackedFolder,
    locked,
    read_status,
    write_json,
)
from dinorl.sweep.plan import Job, Plan
from dinorl.training.gate import STOPPED


class SweepFolder:
    """The folder of one sweep.

    Args:
        path: of the folder; it need not exist.
        resume: reuse runs of an earlier command.
    """

    def __init__(self, path: Path, resume: bool) -> None:
        self.path, self.resume = path, resume

    def run_dir(self, job: Job) -> Path:
        """Return a job's run folder."""
        return self.path / job.folder

    def check(self, plan: Plan) -> None:
        """Check that the folder has no runs of another plan.

        Jobs of an earlier command keep their lineage's folder.

        Raises:
            ConfigError: the folder cannot be used for this plan.
        """
        if not self.path.exists():
            return
        if not self.resume:
            raise ConfigError(
                f"{self.path} is there already; with resume=false nothing of it may be reused. "
                "Type another sweep.name, or resume=true to run what is missing"
            )
        known = self._known()
        _use_old_keys(plan, set(known.values()))
        # a run needs its lineage's folder
        places = {k: f for f, k in known.items() if TrackedFolder((self.path / f).parent).spool.exists()}
        for job in plan.jobs:
            if job.key in places:
                job.lineage = places[job.key].partition("/")[0]
            elif any(RunFolder(self.run_dir(job)).bundles.glob("*")):
                difference = self._difference(job)
                on = f", or stage={job.stage} warm_start={self.run_dir(job)} and another sweep.name to train on"
                raise ConfigError(
                    f"{self.run_dir(job)}: holds a run of another plan: {difference}. Type another sweep.name, or "
                    f"delete that folder{on if difference.startswith('curriculum.timesteps ') else ''}"
                )

    def _difference(self, job: Job) -> str:
        """Return how a job and the run in its folder differ."""
        from dinorl.bundle.locate import resolve
        from dinorl.files.untrusted import read_config

        with contextlib.suppress(ConfigError, OmegaConfBaseException):
            old = read_config(BundleFolder(resolve(self.run_dir(job))).config)
            changed = [
                f"{key} was {before}, is {now}"
                for key, now in trained_on(job.config).items()
                if (before := OmegaConf.select(old, key)) != now
            ]
            if changed:
                return "; ".join(changed[:3]) + ("; …" if len(changed) > 3 else "")
        return "the stages before it, its warm_start or the animal's model have changed"

    @contextlib.contextmanager
    def held(self, plan: Plan) -> Iterator[None]:
        """Create the folder if missing and hold its lock.

        Raises:
            ConfigError: another command holds the lock, or the folder cannot be created.
        """
        with contextlib.ExitStack() as held:
            made = False
            try:
                with contextlib.suppress(FileExistsError):
                    self.path.mkdir(parents=True)
                    made = True
                held.enter_context(locked(self.path))
            except BlockingIOError as error:
                raise ConfigError(
                    f"sweep.name={self.path.name}: another command runs in {self.path}. Wait for it, or type "
                    "another sweep.name"
                ) from error
            except OSError as error:
                raise ConfigError(f"{self.path}: cannot be made: {error.strerror}. Type another sweep.name") from error
            if not made:
                self.check(plan)  # another command may have written since
            try:
                yield
            except ConfigError:
                if made and not any(path.is_dir() for path in self.path.iterdir()):  # nothing has begun
                    shutil.rmtree(self.path)
                raise

    def link_shared(self, job: Job) -> None:
        """Link a shared job's folder into its other lineages."""
        for name in job.lineages:
            link = self.path / name / f"{job.index}-{job.stage}"
            if name != job.lineage and not link.exists():
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(Path("..") / job.folder, target_is_directory=True)

    def depot(self, uri: str) -> str:
        """Return this sweep's place at a depot, the same for every command."""
        path = SweepFiles(self.path).depot
        if not path.exists():
            write_json(path, {"name": f"{self.path.name}-{uuid.uuid4().hex[:12]}"})
        name = json.loads(path.read_text(encoding="utf-8"))["name"]
        return f"{uri.rstrip('/')}/{name}"

    def remember(self, jobs: Sequence[Job]) -> None:
        """Save the job of each run folder for the next command."""
        write_json(SweepFiles(self.path).plan, self._known() | {job.folder: job.key for job in jobs})

    def _known(self) -> dict[str, str]:
        """Return the job's key of each run folder."""
        path = SweepFiles(self.path).plan
        if not path.exists():
            return {}
        try:
            known: dict[str, str] = dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(
                f"{path}: expected what each run folder is, found something else ({error}). Type another sweep.name"
            ) from error
        return known

    def done(self, plan: Plan) -> set[str]:
        """Return the keys of the jobs that are done."""
        known = self._known()
        return {
            job.key
            for job in plan.jobs
            if known.get(job.folder) == job.key and _finished(read_status(self.run_dir(job)) or {})
        }


def _use_old_keys(plan: Plan, written: Set[str]) -> None:
    """Give jobs that dinorl 0.1 ran in this folder the keys that it wrote."""
    old: dict[int, str] = {}
    for job in plan.jobs:  # parents come first
        old[id(job)] = old_job_key(job.config, None if job.parent is None else old[id(job.parent)])
        if job.key not in written and old[id(job)] in written:
            job.key = old[id(job)]


def _finished(state: Mapping[str, Any]) -> bool:
    """Whether a stage needs no training: done, or stopped by a listener."""
    return state.get("status") == "DONE" or state.get("gate") == STOPPED
