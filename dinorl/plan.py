"""From override strings to a plan: which lineages there are, which stages each has, and which of them are one job.

A lineage is one animal's curriculum: one value of everything that is swept. Stages of different lineages that have the
same composed config and the same ancestors are the same job, trained once.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, field

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from dinorl.config import STAGES, Config, ConfigError, base_values, flatten
from dinorl.config.explain import SCOPES, explain_key, groups
from dinorl.config.messages import unknown_option

# Keys that the sweeper reads itself, and those that say nothing about what a stage is trained on.
SWEEPER_KEYS = ("sweep",)
# Keys that are one command's, not one stage's; and those that the sweeper itself gives each job.
COMMAND_KEYS = ("plan_only", "resume", "tracking.uri", "tracking.experiment", "tracking.required")
GIVEN_KEYS = tuple(f"tracking.{key}" for key in ("sweep", "lineage", "lineages", "parent", "job"))
# Keys by which a config group's option says what it is.
CHOSEN_WHOLE = ("species.name", "stage.name", "stage.index", "algo.name")
NOT_TRAINED_ON = (
    "tracking", "warm_start", "resume", "plan_only", "eval.keep", "eval.video_seconds", "sim.threads",
)  # fmt: skip
_MAX_NAME = 120

Composer = Callable[[list[str]], Config]


@dataclass(frozen=True)
class Setting:
    """One override, with the values it is swept over (one, if it is not)."""

    scope: str | None  # the stage it is for; None: all
    key: str  # with Hydra's + or ~, without the scope
    values: tuple[str | None, ...]  # None: no value (~key)
    typed: str  # as the user wrote the key

    @property
    def name(self) -> str:
        """The key without Hydra's + or ~."""
        return self.key.lstrip("+~")

    def override(self, value: str | None) -> str:
        """Return the override that sets one of the values."""
        return self.key if value is None else f"{self.key}={value}"


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


def read_settings(overrides: Iterable[Override], strict: bool = True) -> tuple[list[Setting], list[str]]:
    """Split parsed overrides into settings of stages and the stages that are to be run, in order.

    Args:
        overrides: as Hydra's parser returns them.
        strict: refuse settings of stages that are not run.

    Raises:
        ConfigError: a stage does not exist, or is not run.
    """
    settings: list[Setting] = []
    stages = list(STAGES)
    for override in overrides:
        head, _, rest = override.key_or_group.partition(".")
        values = _values(override)
        typed = override.get_key_element()
        if override.key_or_group == "stage":
            for value in values:
                if value not in STAGES:
                    raise unknown_option("stage", str(value), STAGES)
            stages = [stage for stage in STAGES if stage in values]
        elif head in SWEEPER_KEYS:
            if len(values) > 1:
                raise _once(str(override.input_line), f"{typed}={values[0]}")
        elif rest and head in SCOPES:
            _set(settings, Setting(SCOPES[head], typed.replace(f"{head}.", "", 1), values, typed))
        elif head.isdigit():
            raise explain_key(override.key_or_group, [])
        else:
            _set(settings, Setting(None, typed, values, typed))
    for setting in settings:
        if setting.name in CHOSEN_WHOLE:
            group = setting.name.partition(".")[0]
            raise ConfigError(f"{setting.typed}: is said by conf/{group}/, which is chosen whole. Type {group}=…")
        if setting.name in GIVEN_KEYS:
            raise ConfigError(f"{setting.typed}: is given to each job by the sweeper. Remove it")
        if setting.name in COMMAND_KEYS and (setting.scope is not None or len(setting.values) > 1):
            raise _once(setting.typed, f"{setting.name}={setting.values[0]}")
        if setting.scope is not None and setting.name == "warm_start" and setting.scope != stages[0]:
            raise ConfigError(
                f"{setting.typed}: stage {setting.scope} starts from the stage before it. "
                f"Type warm_start=… for the first stage, or stage={setting.scope} to run it alone"
            )
        if strict and setting.scope is not None and setting.scope not in stages:
            raise ConfigError(
                f"{setting.typed}: stage {setting.scope} is not run by this command (stage={','.join(stages)}). "
                f"Remove it, or type stage={','.join(s for s in STAGES if s in (*stages, setting.scope))}"
            )
    return settings, stages


def _once(typed: str, instead: str) -> ConfigError:
    return ConfigError(f"{typed}: is one thing for the whole command. Type {instead}")


def _set(settings: list[Setting], setting: Setting) -> None:
    """Add a setting; of the same key the last one counts, as everywhere in Hydra, also if both are sweeps."""
    settings[:] = [s for s in settings if (s.scope, s.key) != (setting.scope, setting.key)]
    settings.append(setting)


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
            overrides = _stage_overrides(settings, chosen, stage)
            config = composed.get(tuple(overrides))
            if config is None:
                config = composed[tuple(overrides)] = _compose(compose, overrides, settings, stage)
            parent = chain[-1] if chain else None
            if not name:
                name = _unique(_lineage_name(config, swept, chosen), names)
            if parent is not None:
                check_fits(parent.config, config, stage)
            key = _key(config, parent)
            job = jobs.get(key)
            if job is None:
                job = jobs[key] = Job(stage, config.stage.index, overrides, config, parent, key, name)
            job.lineages.append(name)
            chain.append(job)
        lineages.append(Lineage(name, tuple(chain)))
    plan = Plan(tuple(lineages), tuple(jobs.values()))
    _check_used(settings, plan)
    return plan


def _values(override: Override) -> tuple[str | None, ...]:
    if override.is_delete():
        return (None,)
    if override.is_sweep_override():
        if not override.is_discrete_sweep():
            raise ConfigError(
                f"{override.input_line}: expected values that can be counted, found an interval. "
                f"Type {override.get_key_element()}=0.1,0.2,0.5 or range(start,stop,step)"
            )
        values = tuple(override.sweep_string_iterator())
        if not values:
            raise ConfigError(f"{override.input_line}: expected at least one value, found nothing that matches")
        return values
    return (override.get_value_element_as_str(),)


def _stage_overrides(settings: Sequence[Setting], chosen: dict[int, str | None], stage: str) -> list[str]:
    """Return one stage's overrides: the plain ones, then the stage's own, which win whatever the order."""
    own = {s.name for s in settings if s.scope == stage}
    plain = [s for s in settings if s.scope is None and s.name not in own]
    scoped = [s for s in settings if s.scope == stage]
    return [f"stage={stage}"] + [s.override(chosen.get(id(s), s.values[0])) for s in (*plain, *scoped)]


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


def trained_on(config: Config) -> dict[str, object]:
    """Return the part of a config that decides what a stage learns, ``{"ppo.gamma": …}``."""
    return {
        key: value
        for key, value in flatten(config).items()
        if key not in NOT_TRAINED_ON and key.partition(".")[0] not in NOT_TRAINED_ON
    }


def identity(config: Config) -> str:
    """Return a hash of what a stage is trained on, its ancestors included, by which an attempt at it is known again.

    The sweeper gives it to each job. A config that was composed by itself knows no ancestor but ``warm_start``.
    """
    return config.tracking.job or _key(config, None)


def _key(config: Config, parent: Job | None) -> str:
    from dinorl.sim.model import mjcf_hash, mjcf_path  # brings mujoco, which a plan's grammar does not need

    start = parent.key if parent is not None else config.warm_start
    body = mjcf_hash(config.species) if mjcf_path(config.species).is_file() else None  # that is refused later
    text = json.dumps([trained_on(config), start, body], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


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


_TUNED = "SAC tunes its entropy coefficient itself"


def _tuned_by_hand(config: Config) -> bool:
    return config.algo.name == "ppo" or not isinstance(config.sac.ent_coef, str)


# What must hold for at least one stage for a key to do something, what is so if it does not, and what to type then.
Need = tuple[Callable[[Config], bool], str, str]


def _ramp(start: str, timesteps: str, what: str, example: float) -> dict[str, Need]:
    """Return what a ramp's two keys need: each other."""
    first, length = start.partition(".")[2], timesteps.partition(".")[2]
    return {
        start: (
            lambda c: getattr(c.curriculum, length) > 0, "the ramp takes no time", f"Type {timesteps}=500000"
        ),
        timesteps: (
            lambda c: getattr(c.curriculum, first) is not None, f"there is no {what} to begin with",
            f"Type {start}={example}",
        ),
    }  # fmt: skip


# Keys that do something only beside others.
NEEDS: dict[str, Need] = {
    "sac.ent_coef_end": (_tuned_by_hand, _TUNED, "Type sac.ent_coef=0.02"),
    "curriculum.warmup_ent_coef": (_tuned_by_hand, _TUNED, "Type sac.ent_coef=0.02"),
    "curriculum.warmup_clip_range": (lambda c: c.algo.name == "ppo", "only PPO clips", "Type algo=ppo"),
    "curriculum.warmup_actor_scale": (
        lambda c: c.algo.name == "sac", "PPO's warm-up is its clip range", "Type algo=sac"
    ),
    "env.push_speed": (lambda c: c.env.push_interval > 0.0, "nobody is pushed", "Type env.push_interval=2.0"),
    "env.push_interval": (lambda c: c.env.push_speed > 0.0, "pushes have no speed", "Type env.push_speed=0.3"),
    "curriculum.push_scale": (
        lambda c: c.env.push_interval > 0.0 and c.env.push_speed > 0.0, "nobody is pushed",
        "Type env.push_interval=2.0 env.push_speed=0.3",
    ),
    "curriculum.bearing_scale": (
        lambda c: any(c.env.first_target_bearing_range), "first targets are straight ahead",
        "Type env.first_target_bearing_range=[-1.5,1.5]",
    ),
    **_ramp("curriculum.bearing_scale_start", "curriculum.bearing_ramp_timesteps", "scale", 0.5),
    **_ramp("curriculum.episode_scale_start", "curriculum.episode_ramp_timesteps", "scale", 0.2),
    "env.short_swing_penalty_weight": (
        lambda c: c.env.gait_clock_frequency > 0.0, "there is no clock to say how long a swing is",
        "Type env.gait_clock_frequency=1.5",
    ),
    **_ramp("curriculum.ramp_start_value", "curriculum.ramp_timesteps", "value", 0.2),
}  # fmt: skip


def _is_off(value: str | None, off: float | None) -> bool:
    return value in ("null", None) or (off is not None and yaml.safe_load(value) == off)


def check_needed(setting: Setting, configs: Iterable[Config]) -> None:
    """Refuse a key that does nothing in any of the configs it is set in, as what it needs is not there."""
    if setting.name not in NEEDS:
        return
    off = OmegaConf.select(base_values(), setting.name)
    if all(_is_off(value, off) for value in setting.values):
        return  # to turn off what is off is no mistake
    holds, so, instead = NEEDS[setting.name]
    if not any(map(holds, configs)):
        raise ConfigError(f"{setting.typed}: means nothing here, {so}. {instead}, or remove it")


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


def hydra_value(text: str) -> str:
    """Quote a string so that Hydra's grammar takes it as it is."""
    # in its quoted strings a backslash is a backslash, but for those right before a quote
    escaped = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), text)
    return f"'{escaped}'"


def one_stage(overrides: Sequence[str]) -> list[str]:
    """Return the overrides of the one stage whose config is asked for: its own stage-scoped keys, without the scope."""
    settings, stages = read_settings(OverridesParser.create().parse_overrides(list(overrides)), strict=False)
    return _stage_overrides(settings, {}, stages[0])
