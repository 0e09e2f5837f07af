"""From override strings to a plan: which lineages there are, which stages each has, and which of them are one job.

A lineage is one animal's curriculum: one value of everything that is swept. Stages of different lineages that have the
same composed config and the same ancestors are the same job, trained once.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field

from dinorl.config import Config, ConfigError
from dinorl.config.identity import job_key
from dinorl.config.overrides import Setting, check_needed, stage_overrides
from dinorl.config.tree import groups

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
    key: str  # hash of the composed config and of the ancestors'
    lineage: str  # the first lineage that needs it; it lives in that one's folder
    lineages: list[str] = field(default_factory=list)

    @property
    def folder(self) -> str:
        """Its run folder within the sweep's."""
        return f"{self.lineage}/{self.index}-{self.stage}"

    @property
    def title(self) -> str:
        """What a person calls the stage: ``1 balance``, ``3 bite``."""
        return f"{self.index} {self.config.species.event.name if self.stage == 'behavior' else self.stage}"


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

    def levels(self) -> list[list[Job]]:
        """Return the jobs by how many ancestors they have; a level needs only those before it."""
        by_depth: dict[int, list[Job]] = {}
        for job in self.jobs:
            depth, ancestor = 0, job.parent
            while ancestor is not None:
                depth, ancestor = depth + 1, ancestor.parent
            by_depth.setdefault(depth, []).append(job)
        return [by_depth[depth] for depth in sorted(by_depth)]


def make_plan(settings: Sequence[Setting], stages: Sequence[str], compose: Composer) -> Plan:
    """Compose every stage of every lineage, and make one job of those that are the same.

    Args:
        settings: see :func:`read_settings`.
        stages: to be run, in order.
        compose: from overrides of one stage to its checked config.

    Raises:
        ConfigError: a stage's config is invalid, or stages of a lineage do not fit each other.
    """
    swept = [s for s in settings if len(s.values) > 1]
    lineages: list[Lineage] = []
    jobs: dict[str, Job] = {}
    names: set[str] = set()
    composed: dict[tuple[str, ...], Config] = {}
    for combination in itertools.product(*(s.values for s in swept)):
        chosen = dict(zip(map(id, swept), combination, strict=True))
        chain: list[Job] = []
        name = ""
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
        # say the key as it was typed, with its stage
        text = str(error)
        for setting in settings:
            if setting.scope == stage and text.startswith(setting.name):
                prefix = setting.typed.lstrip("+~").removesuffix(setting.name)
                raise ConfigError(
                    prefix + text.replace(f"Type {setting.name}", f"Type {prefix}{setting.name}")
                ) from error
        raise


def _lineage_name(config: Config, swept: Sequence[Setting], chosen: dict[int, str | None]) -> str:
    parts = [f"{config.species.name}-{config.algo.name}-s{config.seed}"]
    for setting in swept:
        if setting.scope is not None or setting.name not in ("species", "algo", "seed"):
            parts.append(f"{setting.typed.lstrip('+~')}={chosen[id(setting)]}")
    name = re.sub(r"[^\w.=+-]+", "_", "-".join(parts)).strip("_")
    if len(name) > _MAX_NAME:
        name = f"{name[: _MAX_NAME - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return name


def _unique(name: str, taken: set[str]) -> str:
    candidates = itertools.chain([name], (f"{name}-{i}" for i in itertools.count(2)))
    free = next(candidate for candidate in candidates if candidate not in taken)
    taken.add(free)
    return free


def check_fits(before: Config, after: Config, stage: str) -> None:
    """Refuse a hand-over that cannot work: another animal, algorithm or network."""
    algo = after.algo.name
    network = getattr(before, algo).policy_kwargs
    for what, one, other in (
        ("species", before.species.name, after.species.name),
        ("algo", before.algo.name, after.algo.name),
        *(
            (f"{algo}.policy_kwargs.{key}", getattr(network, key), getattr(getattr(after, algo).policy_kwargs, key))
            for key in ("net_arch", "activation_fn", "mirror")
        ),
    ):
        if one != other:
            raise ConfigError(
                f"{what}={other} in stage {stage}: it starts from a policy that was trained with {one}, and no other "
                f"fits. Type {what}={one} for every stage, or run this one from scratch: stage={stage}, no warm_start"
            )


def _check_used(settings: Sequence[Setting], plan: Plan) -> None:
    """Refuse options of an algorithm that no job of the plan uses."""
    used = {job.config.algo.name for job in plan.jobs}
    for setting in settings:
        head = setting.name.partition(".")[0]
        if head in groups("algo") and head not in used and "." in setting.name:
            raise ConfigError(
                f"{setting.typed}: means nothing here, no job of this command uses {head}. "
                f"Type algo={head}, or remove it"
            )
        check_needed(setting, [job.config for job in plan.jobs if setting.scope in (None, job.stage)])


def plan_rows(plan: Plan, done: Set[str] = frozenset()) -> list[tuple[str, str, str, str, str]]:
    """Return the plan as rows: lineage, stage, algorithm, steps, and where it starts from or who trains it.

    Args:
        plan: what to show.
        done: keys of jobs that need no training any more.
    """
    rows = []
    for lineage in plan.lineages:
        for job in lineage.jobs:
            if job.lineage != lineage.name:
                note = f"shared: {job.folder}"
            elif job.key in done:
                note = "done before"
            elif job.parent is not None:
                note = f"from {job.parent.folder}" if job.parent.lineage != lineage.name else "from the stage before"
            else:
                note = job.config.warm_start or "from scratch"
            steps = f"{job.config.curriculum.timesteps:,}"
            rows.append((lineage.name, job.title, job.config.algo.name, steps, note))
    return rows
