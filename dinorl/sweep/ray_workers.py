"""Jobs on Ray, on this machine or a cluster: each starts alone, with the resources that its config asks for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from omegaconf import DictConfig, OmegaConf
from ray._private.ray_constants import RAY_WORKER_NICENESS
from ray.exceptions import RayError, TaskCancelledError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from dinorl.config import ConfigError
from dinorl.config.secrets import VARIABLE
from dinorl.files.run_folder import SweepFiles
from dinorl.sweep.isolate import Failure, JobLost
from dinorl.sweep.plan import Job
from dinorl.sweep.workers import End, HydraJobs, run_hydra_job
from dinorl.tracking.terminal import say

OBJECT_STORE = 78_643_200  # bytes, the least that Ray takes; jobs pass little
LOOK_TIMEOUT = 60.0  # s, for every machine of a cluster to answer


def init_options(launcher: DictConfig, **local: Any) -> dict[str, Any]:
    """Return the arguments of ``ray.init``: quiet, and of this machine alone unless it joins a cluster.

    Args:
        launcher: config of the launcher, Ray's or another.
        local: further ones for this machine alone.
    """
    init = OmegaConf.select(launcher, "ray.init")
    given: dict[str, Any] = {} if init is None else OmegaConf.to_container(init, resolve=True)  # type: ignore[assignment]
    address = given.get("address") or os.environ.get("RAY_ADDRESS") or "local"  # Ray would join what it finds
    # a cluster that exists keeps its own memory
    alone = {"object_store_memory": OBJECT_STORE, **local} if address == "local" else {}
    return {"include_dashboard": False, "log_to_driver": False, **alone, **given, "address": address}


def connect(launcher: DictConfig, **local: Any) -> bool:
    """Start Ray here, or join a cluster; return whether it is one that exists. See :func:`init_options`.

    Raises:
        ConfigError: there is none, or an option is not Ray's.
    """
    options = init_options(launcher, **local)
    os.environ.setdefault(RAY_WORKER_NICENESS, "0")  # Ray's 15 leaves jobs a thirtieth of a busy core
    try:
        if not ray.is_initialized():
            ray.init(**options)
    except (OSError, RuntimeError, TypeError, ValueError, RayError) as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
        raise ConfigError(
            f"Ray does not start: {first}",
            key=f"hydra.launcher.ray.init.address={options['address']}",
            hint="Type ray start --head on one machine, ray start --address=… on the others, and "
            "hydra.launcher.ray.init.address=auto; or leave it out to use this machine alone",
        ) from error
    return bool(options["address"] != "local")


class OnRay:
    """Jobs as Ray's tasks.

    Args:
        jobs: composes them.
        launcher: config of ``hydra/launcher=ray``.
    """

    def __init__(self, jobs: HydraJobs, launcher: DictConfig) -> None:
        self._jobs = jobs
        self._options: dict[str, Any] = {
            "max_retries": 0,  # the command retries
            **OmegaConf.to_container(launcher.ray.remote, resolve=True),  # type: ignore[dict-item]
        }
        self._running: dict[Any, Job] = {}
        self._joined = connect(launcher)

    def submit(self, job: Job, overrides: Sequence[str]) -> None:
        """Queue a job at Ray."""
        needs = {"num_cpus": max(1, job.config.sim.threads)}
        task = ray.remote(_run).options(name=job.folder, **{**needs, **self._options})
        self._running[task.remote(self._jobs.composed(overrides), _environment())] = job

    def wait(self) -> list[End]:
        """Wait until a task has ended."""
        ready, _ = ray.wait(list(self._running), num_returns=1)
        return [(self._running.pop(task), _result(task)) for task in ready]

    def machines_without(self, folder: Path) -> list[str]:
        """Return the machines of a joined cluster that do not see a sweep's folder."""
        return machines_without(SweepFiles(folder).plan) if self._joined else []

    def interrupt(self) -> None:
        """Cancel all tasks: a running job gets Ray's SIGINT, saves a bundle and stops."""
        for task in self._running:
            ray.cancel(task)

    def left(self) -> int:
        """Return how many tasks are not waited for."""
        return len(self._running)

    def busy(self) -> bool:
        """Return whether a task has not ended."""
        if not self._running:
            return False
        _, left = ray.wait(list(self._running), num_returns=len(self._running), timeout=0.0)
        return bool(left)

    def close(self) -> None:
        """Leave Ray, which ends its tasks of this command."""
        self._running.clear()
        ray.shutdown()


def machines_without(path: Path) -> list[str]:
    """Return the cluster's machines that do not see a file of this command's, by its absolute path.

    Raises:
        ConfigError: dinorl does not run on one of them.
    """
    look, changed = ray.remote(_sees), path.stat().st_mtime_ns
    answers = {}
    for node in ray.nodes():  # type: ignore[no-untyped-call]
        if node["Alive"]:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            task = look.options(num_cpus=0, max_retries=0, scheduling_strategy=there).remote(path, changed)
            answers[task] = node["NodeManagerHostname"]
    ready, late = ray.wait(list(answers), num_returns=len(answers), timeout=LOOK_TIMEOUT)
    without = []
    for task in ready:
        try:
            if not ray.get(task):
                without.append(answers[task])
        except RayError as error:
            last = (str(error).strip() or type(error).__name__).splitlines()[-1]
            raise ConfigError(
                f"{answers[task]} cannot run a job: {last}", hint="Install the same dinorl on every machine"
            ) from error
    for task in late:
        say(f"doubt: {answers[task]} has not answered for {LOOK_TIMEOUT:.0f} s")
    return without


def _sees(path: Path, changed: int) -> bool:
    return path.exists() and path.stat().st_mtime_ns == changed


def _environment() -> dict[str, str]:
    """Return what jobs on other machines need of this environment."""
    return {k: v for k, v in os.environ.items() if k.startswith("MLFLOW_") or k in (VARIABLE, "DO_NOT_TRACK")}


def _run(job: bytes, environment: Mapping[str, str]) -> Any:
    os.environ.update(environment)
    try:
        return run_hydra_job(job)
    except Exception as error:  # Ray would wrap it
        return Failure.of(error)


def _result(task: Any) -> Any:
    """Return what a task's job returned, or its error."""
    try:
        result = ray.get(task)
    except TaskCancelledError:
        return KeyboardInterrupt()
    except RayError as error:
        first = str(error).strip().partition("\n")[0].partition(". ")[0]
        return JobLost(f"its process or machine is gone ({type(error).__name__}: {first})")
    if isinstance(result, Failure):
        try:
            result.unwrapped()
        except Exception as error:
            return error
    return result
