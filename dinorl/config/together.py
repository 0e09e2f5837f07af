"""Rules between keys: conflicts, and keys that need others to have an effect."""

from __future__ import annotations

import math

from dinorl.config.algorithms import ALGORITHMS
from dinorl.config.env import parameters_of
from dinorl.config.errors import ConfigError
from dinorl.config.schema import POLICY_HANDED_OVER, Config
from dinorl.tasks.declare import Need

# Fewer prove nothing.
MIN_EPISODES = 32


def check_together(cfg: Config) -> None:
    """Check values against each other.

    Raises:
        ConfigError: some conflict.
    """
    cfg.algorithm.check(cfg.sim.n_envs)
    _check_updates(cfg)
    _check_success_bound(cfg.curriculum.min_success_lcb, cfg.eval.episodes)
    if len(cfg.species.gait_phase) != len(cfg.species.feet):
        raise ConfigError(
            key="species.gait_phase",
            found=str(cfg.species.gait_phase),
            expected=f"{len(cfg.species.feet)} numbers, one a foot",
        )


def _check_updates(cfg: Config) -> None:
    """Refuse lengths in updates where there are none, or beside the same length in steps."""
    for what in ("warmup", "ramp"):
        updates, timesteps = (getattr(cfg.curriculum, f"{what}_{unit}") for unit in ("updates", "timesteps"))
        if not updates:
            continue
        key, other = f"curriculum.{what}_updates", f"curriculum.{what}_timesteps"
        if cfg.algorithm.rollout(cfg.sim.n_envs) is None:
            raise ConfigError(
                f"{cfg.algo.name} has no rollouts to count", key=key, found=str(updates),
                hint=f"Type {key}=0 {other}=100000",
            )  # fmt: skip
        if timesteps:
            raise ConfigError(
                f"{other}={timesteps} is given too, and one of them counts", key=key, found=str(updates),
                hint=f"Type {other}=0, or {key}=0",
            )  # fmt: skip


def _check_success_bound(asked: float | None, episodes: int) -> None:
    """Refuse a bound on success that so many episodes cannot show."""
    # Clopper-Pearson, n of n
    shown = 0.05 ** (1.0 / episodes)
    if asked is None or shown >= asked or episodes < MIN_EPISODES:
        return
    enough = math.ceil(math.log(0.05) / math.log(asked)) if asked < 1.0 else None
    raise ConfigError(
        f"{episodes} episodes that all succeed show {shown:.3f}, so no policy could pass; "
        + (f"it takes {enough}" if enough else "no number of episodes shows 1"),
        key="curriculum.min_success_lcb",
        found=str(asked),
        hint=f"Type eval.episodes={enough}" if enough else "Type curriculum.min_success_lcb=0.9",
    )


def missing_need(key: str, config: Config) -> Need | None:
    """Return the missing need of a key in a config, or None."""
    parameter = (
        parameters_of(config.species.event.keys).get(key.removeprefix("env.")) if key.startswith("env.") else None
    )
    needs: list[tuple[Need | None, object]] = [
        (config.algorithm.needs.get(key), config.algorithm),
        (parameter.need if parameter else None, config.env),
        (NEEDS.get(key), config),
    ]
    for need, node in needs:
        if need is not None and not need.holds(node):
            return need
    return None


def _ramp(start: str, timesteps: str, what: str, example: float) -> dict[str, Need]:
    """Return the needs of a ramp's two keys, which need each other."""
    first, length = start.partition(".")[2], timesteps.partition(".")[2]
    return {
        start: Need(
            lambda c: getattr(c.curriculum, length) > 0, "the ramp takes no time", f"Type {timesteps}=500000"
        ),
        timesteps: Need(
            lambda c: getattr(c.curriculum, first) is not None, f"there is no {what} to begin with",
            f"Type {start}={example}",
        ),
    }  # fmt: skip


def _warmup(key: str) -> Need:
    """Return the need of a warm-up key that only some algorithms have."""
    owners = [name for name, kind in ALGORITHMS.items() if key in kind.warmup]
    return Need(lambda c: key in c.algorithm.warmup, f"only {' and '.join(owners)} uses it", f"Type algo={owners[0]}")


# Needs across nodes.
NEEDS: dict[str, Need] = {
    "curriculum.warmup_clip_range": _warmup("warmup_clip_range"),
    "curriculum.warmup_actor_scale": _warmup("warmup_actor_scale"),
    "curriculum.handover_log_std": Need(
        lambda c: c.curriculum.hand_over in POLICY_HANDED_OVER, "no policy is handed over",
        "Type curriculum.hand_over=all",
    ),
    "sim.device": Need(lambda c: c.sim.backend == "warp", "only warp has devices", "Type sim.backend=warp"),
    "sim.deterministic": Need(
        lambda c: c.sim.backend == "warp", "the cpu backend always is", "Type sim.backend=warp"
    ),
    "warm_start": Need(
        lambda c: c.curriculum.hand_over != "nothing", "nothing is handed over", "Type curriculum.hand_over=all"
    ),
    "curriculum.push_scale": Need(
        lambda c: c.env.push_interval > 0.0 and c.env.push_speed > 0.0, "nobody is pushed",
        "Type env.push_interval=2.0 env.push_speed=0.3",
    ),
    "curriculum.bearing_scale": Need(
        lambda c: any(c.env.first_target_bearing_range), "first targets are straight ahead",
        "Type env.first_target_bearing_range=[-1.5,1.5]",
    ),
    **_ramp("curriculum.bearing_scale_start", "curriculum.bearing_ramp_timesteps", "scale", 0.5),
    **_ramp("curriculum.episode_scale_start", "curriculum.episode_ramp_timesteps", "scale", 0.2),
    "curriculum.ramp_start_value": Need(
        lambda c: c.ramp_steps > 0, "the ramp takes no time", "Type curriculum.ramp_timesteps=500000"
    ),
    **dict.fromkeys(
        ("curriculum.ramp_timesteps", "curriculum.ramp_updates"),
        Need(
            lambda c: c.curriculum.ramp_start_value is not None, "there is no value to begin with",
            "Type curriculum.ramp_start_value=0.2",
        ),
    ),
}  # fmt: skip
