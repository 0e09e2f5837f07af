"""Turns a ``[jax]`` table of a TOML stage file into an overlay that ``experiment=gpu`` composes."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from dinorl.config.errors import nearest
from dinorl.config.schema import RAMPED_WEIGHT

# Where a key of the table goes, if not to the same name below ppo or curriculum.
_RENAMED = {
    "num_envs": "sim.n_envs",
    "rollout_len": "ppo.n_steps",
    "ppo_epochs": "ppo.n_epochs",
    "minibatch_size": "ppo.batch_size",
}
# Keys without a counterpart, and why.
_WITHOUT = {
    "vf_clip_range": "PPO here does not clip value estimates",
    "init_qpos_noise": "the reset is part of the task, which is the same on every machine: env.reset_noise_scale",
    "init_yaw_noise": "animals begin in every direction already",
    "obs_rms_decay_on_resume": "observation statistics are handed over whole; curriculum.hand_over chooses",
}
_ENDS = ("learning_rate_end", "clip_range_end", "ent_coef_end", "target_kl")  # null unless the table has them
Skipped = list[tuple[str, str]]  # key, reason


def overlay(table: Mapping[str, Any], others: Mapping[str, Any], known: Set[str]) -> tuple[dict[str, Any], Skipped]:
    """Return an overlay's content and the keys that it does not take.

    Args:
        table: ``[jax]``.
        others: the stage file's other tables.
        known: every key of the config.
    """
    taken: dict[str, Any] = {f"ppo.{key}": None for key in _ENDS if key in others.get("ppo", {}) and key not in table}
    skipped: Skipped = []
    for key, value in _leaves(table):
        if key in ("num_updates", "ramp_attr", "ramp_start_fraction"):
            continue  # below, with others
        places = [place for place in (_RENAMED.get(key, f"ppo.{key}"), f"curriculum.{key}") if place in known]
        if places:
            taken[places[0]] = value
        else:
            close = nearest(f"ppo.{key}", known)
            reason = _WITHOUT.get(key, "unknown key" + (f"; the nearest is {close[0]}" if close else ""))
            skipped.append((f"jax.{key}", reason))
    skipped += _budget(table, taken) + _ramp(table, others, taken)
    for what in ("warmup", "ramp"):
        if f"curriculum.{what}_updates" in taken:
            taken[f"curriculum.{what}_timesteps"] = 0  # one of them counts
    return _nested(taken), skipped


def _budget(table: Mapping[str, Any], taken: dict[str, Any]) -> Skipped:
    """Take the budget, in updates of a rollout of all animals."""
    if "num_updates" not in table:
        return []
    if not {"num_envs", "rollout_len"} <= set(table):
        return [("jax.num_updates", "its length needs jax.num_envs and jax.rollout_len")]
    taken["curriculum.timesteps"] = table["num_updates"] * table["num_envs"] * table["rollout_len"]
    return []


def _ramp(table: Mapping[str, Any], others: Mapping[str, Any], taken: dict[str, Any]) -> Skipped:
    """Take the ramp's start, a share of the ramped weight; take nothing of a ramp of another weight."""
    ramped, weight = table.get("ramp_attr", RAMPED_WEIGHT), others.get("env", {}).get(RAMPED_WEIGHT)
    if ramped != RAMPED_WEIGHT:
        taken.pop("curriculum.ramp_updates", None)
        keys = [key for key in ("ramp_attr", "ramp_updates", "ramp_start_fraction") if key in table]
        return [(f"jax.{key}", f"only {RAMPED_WEIGHT} is ramped, not {ramped}") for key in keys]
    if "ramp_start_fraction" not in table:
        return []
    if weight is None:
        return [("jax.ramp_start_fraction", f"it is a share of env.{RAMPED_WEIGHT}, which the file does not have")]
    taken["curriculum.ramp_start_value"] = round(table["ramp_start_fraction"] * weight, 9)
    return []


def _leaves(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found = []
    for key, value in table.items():
        found += _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]
    return found


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, last = key.split(".")
        node = content
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return content
