"""Turns overrides into a plan: lineages and their shared jobs.

A lineage is one curriculum: one combination of the swept values. Stages with the same composed config and the same
ancestors are one job, trained once.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field

from dinorl.config import ALGORITHMS, POLICY_HANDED_OVER, Config, ConfigError
from dinorl.config.explain import unused_algorithm
from dinorl.config.identity import job_key
from dinorl.config.overrides import Setting, check_needed, stage_overrides

_MAX_NAME = 120

Composer = Callable[[list[str]], Config]


@dataclass
class Job:
    """One stage run."""

    stage: str
    index: int
    overrides: list[str]
    config: Config
    parent: Job | None
    key: str  # hash of config and ancestors
    lineage: str  # the first one that needs it
    lineages: list[str] = field(default_factory=list)

    @property
    def folder(self) -> str:
        """Its run folder within the sweep's."""
        return f"{self.lineage}/{self.index}-{self.stage}"

    @property
    def title(self) -> str:
        """Title of the stage, such as ``3 bite``."""
        return f"{self.index} {self.config.stage_label}"


@dataclass(frozen=True)
class Lineage:
    """One animal's curriculum."""

    name: str
    jobs: tuple[Job, ...]


@dataclass(frozen=True)
class Plan:
    """All lineages of a sweep and their jobs, each job once."""

    lineages: tuple[Lineage, ...]
    jobs: tuple[Job, ...]


def make_plan(
    settings: Sequence[Setting],
    stages: Sequence[str],
    compose: Composer,
    named: Mapping[str, dict[int, str | None]] | None = None,
) -> Plan:
    """Compose every stage of every lineage; equal stages become one job.

    Args:
        settings: see :func:`read_settings`.
        stages: to run, in order.
        compose: returns a stage's checked config from overrides.
        named: values by the id of their setting, by their lineage's name; None: every combination.

    Raises:
        ConfigError: a stage's config is invalid, or stages of a lineage do not fit each other.
    """
    swept = [s for s in settings if len(s.values) > 1]
    lineages: list[Lineage] = []
    jobs: dict[str, Job] = {}
    names: set[str] = set()
    composed: dict[tuple[str, ...], Config] = {}
    product = itertools.product(*(s.values for s in swept))
    combinations = (("", dict(zip(map(id, swept), values, strict=True))) for values in product)
    for name, chosen in combinations if named is None else named.items():
        chain: list[Job] = []
        for stage in stages:
            overrides = stage_overrides(settings, chosen, stage)
            config = composed.get(tuple(overrides))
            if config is None:
                config = composed[tuple(overrides)] = _compose(compose, overrides, settings, stage)
            parent = chain[-1] if chain else None
            if not name:
                name = _unique(_lineage_name(config, swept, chosen), names)
            if parent is not None:
                check_fits(parent.config, config, stage)
            key = job_key(config, None if parent is None else parent.key)
            job = jobs.get(key)
            if job is None:
                job = jobs[key] = Job(stage, config.stage.index, overrides, config, parent, key, name)
            job.lineages.append(name)
            chain.append(job)
        lineages.append(Lineage(name, tuple(chain)))
    plan = Plan(tuple(lineages), tuple(jobs.values()))
    _check_used(settings, plan)
    return plan


def _compose(compose: Composer, overrides: list[str], settings: Sequence[Setting], stage: str) -> Config:
    try:
        return compose(overrides)
    except ConfigError as error:
        for setting in settings:
            if setting.scope == stage and error.key.startswith(setting.name):
                raise error.in_stage(setting.typed.lstrip("+~").removesuffix(setting.name)) from error
        raise


def _lineage_name(config: Config, swept: Sequence[Setting], chosen: dict[int, str | None]) -> str:
    parts = [f"{config.species.name}-{config.algo.name}-s{config.seed}"]
    for setting in swept:
        if setting.scope is not None or setting.name not in ("species", "algo", "seed"):
            parts.append(f"{setting.typed.lstrip('+~')}-{chosen[id(setting)]}")
    name = re.sub(r"[^\w.+-]+", "_", "-".join(parts), flags=re.ASCII).strip("_")  # Hydra takes it unquoted
    if len(name) > _MAX_NAME:
        name = f"{name[: _MAX_NAME - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return name


def _unique(name: str, taken: set[str]) -> str:
    candidates = itertools.chain([name], (f"{name}-{i}" for i in itertools.count(2)))
    free = next(candidate for candidate in candidates if candidate not in taken)
    taken.add(free)
    return free


def check_fits(before: Config, after: Config, stage: str) -> None:
    """Check that a warm start keeps the animal and, if the policy is handed over, algorithm and network."""
    what_must_match = [("species", before.species.name, after.species.name)]
    policy = after.curriculum.hand_over in POLICY_HANDED_OVER
    if policy:
        what_must_match.append(("algo", before.algo.name, after.algo.name))
    if policy and before.algo.name == after.algo.name:
        one, other = before.algorithm.policy_kwargs, after.algorithm.policy_kwargs
        node = f"{after.algo.name}.policy_kwargs"
        what_must_match += [
            (f"{node}.{key}", getattr(one, key), getattr(other, key)) for key in after.algorithm.handed_over
        ]
    for what, one, other in what_must_match:
        if one != other:
            raise ConfigError(
                f"it starts from a policy that was trained with {one}, and no other fits",
                key=f"{what}={other} in stage {stage}",
                hint=f"Type {what}={one} for every stage, or run this one from scratch: stage={stage}, no warm_start",
            )


def _start(job: Job, lineage: str) -> str:
    """Return what a job starts from, for people."""
    what = job.config.curriculum.hand_over
    if what == "nothing" or (job.parent is None and job.config.warm_start is None):
        return "from scratch"
    if job.parent is None:
        start = str(job.config.warm_start)
    else:
        start = f"from {job.parent.folder}" if job.parent.lineage != lineage else "from the stage before"
    return start if what == "all" else f"{start} ({what})"


def _check_used(settings: Sequence[Setting], plan: Plan) -> None:
    """Check that every option has an effect in some job of the plan."""
    used = {job.config.algo.name for job in plan.jobs}
    for setting in settings:
        head = setting.name.partition(".")[0]
        if head in ALGORITHMS and head not in used and "." in setting.name:
            raise unused_algorithm(setting.typed, head)
        check_needed(setting, [job.config for job in plan.jobs if setting.scope in (None, job.stage)])


def plan_rows(plan: Plan, done: Set[str] = frozenset()) -> list[tuple[str, str, str, str, str]]:
    """Return the plan as rows: lineage, stage, algorithm, steps, start or sharer.

    Args:
        plan: to show.
        done: keys of jobs that are trained already.
    """
    rows = []
    for lineage in plan.lineages:
        for job in lineage.jobs:
            if job.lineage != lineage.name:
                note = f"shared: {job.folder}"
            elif job.key in done:
                note = "done before"
            else:
                note = _start(job, lineage.name)
            steps = f"{job.config.curriculum.timesteps:,}"
            rows.append((lineage.name, job.title, job.config.algo.name, steps, note))
    return rows
