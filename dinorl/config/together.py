"""Which values go together, and which keys do nothing without others."""

from __future__ import annotations

import math
from collections.abc import Callable

from dinorl.config.errors import ConfigError, wrong_value
from dinorl.config.schema import Config

# With fewer episodes than this a gate's verdict is a coin flip, so it is never called proven.
MIN_EPISODES = 32


def check_together(cfg: Config) -> None:
    """Refuse values that are possible alone but not with each other."""
    if cfg.algo.name == "ppo":
        rollout = cfg.ppo.n_steps * cfg.sim.n_envs
        if rollout % cfg.ppo.batch_size:
            small = [d for d in range(1, math.isqrt(rollout) + 1) if rollout % d == 0]
            best = min((*small, *(rollout // d for d in small)), key=lambda d: abs(d - cfg.ppo.batch_size))
            raise ConfigError(
                f"ppo.batch_size={cfg.ppo.batch_size}: expected a divisor of ppo.n_steps × sim.n_envs = "
                f"{cfg.ppo.n_steps} × {cfg.sim.n_envs} = {rollout}; the nearest is {best}. Type ppo.batch_size={best}"
            )
        if rollout < 2:
            raise ConfigError("ppo.n_steps=1: with sim.n_envs=1 a rollout has one sample; type ppo.n_steps=24")
    # dinorl.evaluation's clopper_pearson_lower(n, n) is 0.05^(1/n); with few episodes nothing is proven anyway
    asked, episodes = cfg.curriculum.min_success_lcb, cfg.eval.episodes
    shown = 0.05 ** (1.0 / episodes)
    if asked is not None and shown < asked and episodes >= MIN_EPISODES:
        enough = math.ceil(math.log(0.05) / math.log(asked)) if asked < 1.0 else None
        raise ConfigError(
            f"curriculum.min_success_lcb={asked}: {episodes} episodes that all succeed show {shown:.3f}, "
            "so no policy could pass; it takes "
            + (f"{enough}. Type eval.episodes={enough}" if enough else "less. Type curriculum.min_success_lcb=0.9")
        )
    if len(cfg.species.gait_phase) != len(cfg.species.feet):
        raise ConfigError(
            f"species.gait_phase: expected {len(cfg.species.feet)} numbers, one a foot, found {cfg.species.gait_phase}"
        )
    for arch in ("ppo", "sac"):
        layers = getattr(cfg, arch).policy_kwargs.net_arch
        if not 1 <= len(layers) <= 16 or min(layers) < 1 or max(layers) > 4096:
            raise wrong_value(
                f"{arch}.policy_kwargs.net_arch", layers, "1 to 16 layers of 1 to 4096 units each", "[128,128]"
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
