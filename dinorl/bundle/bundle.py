"""The bundle: one folder that holds everything of a stage at one moment. Arrays and JSON only, no pickles.

    policy.npz  optimizer.npz  normalization.npz  random.npz  [state.npz]      arrays; SAC's actor in policy.npz is the
                  average that was evaluated, the one that learns is in optimizer.npz
    meta.json     counters, evaluation, versions, git sha, hash of the MJCF
    config.yaml     the composed config
    [progress.json]     with state.npz: what only going on with an unfinished stage needs (resume.py)

It is written under another name and renamed, so it is there as a whole or not at all.
"""

from __future__ import annotations

import copy
import itertools
import json
import os
import random
import shutil
import uuid
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from hydra.errors import HydraException
from omegaconf import OmegaConf
from stable_baselines3 import SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize

from dinorl.bundle.locate import numbered
from dinorl.config import Config, ConfigError, base_values, build, to_container
from dinorl.config.explain import explain
from dinorl.config.overrides import check_needed, read_settings
from dinorl.config.species import SPECIES_DIR, mjcf_hash, mjcf_path
from dinorl.files.provenance import git_sha, versions
from dinorl.files.run_folder import META
from dinorl.files.untrusted import read_arrays, read_config, read_json
from dinorl.learners.algorithms import StageSAC

FORMAT = 1
POLICY, OPTIMIZER, NORMALIZATION, RANDOM, CONFIG = (
    "policy.npz", "optimizer.npz", "normalization.npz", "random.npz", "config.yaml",
)  # fmt: skip
# In optimizer.npz: the actor that learns, where policy.npz has the average that follows it.
LEARNER = "learner/"


def save(
    folder: Path, model: BaseAlgorithm, env: VecNormalize, cfg: Config, evaluation: Mapping[str, Any],
    arrays: Mapping[str, Mapping[str, np.ndarray]] | None = None, texts: Mapping[str, Any] | None = None,
) -> Path:  # fmt: skip
    """Write a bundle; an older one in the same place is replaced only when the new one is complete.

    Args:
        folder: where to.
        model, env: what to keep.
        cfg: the composed config.
        evaluation: metrics of the policy as it is now, empty if it was not evaluated.
        arrays, texts: more files, by name: arrays for a .npz, and JSON.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = folder.parent / f".{folder.name}-{uuid.uuid4().hex[:8]}"
    building.mkdir()
    try:
        files = {
            POLICY: _policy_arrays(model),
            OPTIMIZER: _optimizer_arrays(model),
            NORMALIZATION: _normalization_arrays(env),
            RANDOM: _random_arrays(),
        }
        for name, content in (files | dict(arrays or {})).items():
            np.savez(building / name, **content)
        for name, text in (texts or {}).items():
            (building / name).write_text(json.dumps(text))
        OmegaConf.save(OmegaConf.create(to_container(cfg)), building / CONFIG)
        meta = {
            "format": FORMAT,
            "species": cfg.species.name,
            "stage": cfg.stage.name,
            "algo": cfg.algo.name,
            "seed": cfg.seed,
            "timesteps": model.num_timesteps,
            "updates": getattr(model, "_n_updates", 0),
            "evaluation": dict(evaluation),
            "mjcf_sha256": mjcf_hash(cfg.species),
            "git_sha": git_sha(),
            "versions": versions(),
        }
        (building / META).write_text(json.dumps(meta, indent=2))
        old = folder.parent / f".{folder.name}-old-{uuid.uuid4().hex[:8]}"
        if folder.exists():
            os.rename(folder, old)
        os.rename(building, folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return folder


def load_config(bundle: Path, overrides: Sequence[str] = ()) -> Config:
    """Return the config that a bundle was trained with.

    Keys that did not exist when it was written have their value of ``conf/base``, which is "off".

    Args:
        bundle: its folder.
        overrides: other values of ``env.*``, in Hydra's grammar.

    Raises:
        ConfigError: an override does not fit.
    """
    config = OmegaConf.merge(base_values(), read_config(bundle / CONFIG))
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        for override in parsed:
            if not override.key_or_group.startswith("env.") or override.type != OverrideType.CHANGE:
                raise ConfigError(
                    f"{override.input_line}: a policy that is trained already can only be given other conditions: "
                    "env.<key>=<value>, such as env.push_speed=0.5"
                )
            OmegaConf.update(config, override.key_or_group, override.value())
    except HydraException as error:
        raise explain(error, list(overrides)) from error
    try:
        cfg = build(config)  # type: ignore[arg-type]
        for setting in read_settings(parsed)[0]:
            check_needed(setting, [cfg])
    except ConfigError as error:
        raise error if overrides else ConfigError(f"{bundle / CONFIG}: {error}") from error
    model = mjcf_path(cfg.species).resolve()
    known = SPECIES_DIR in model.parents or (
        model.is_file() and mjcf_hash(cfg.species) == load_meta(bundle)["mjcf_sha256"]
    )
    if not known:
        raise ConfigError(
            f"{bundle / CONFIG}: species.mjcf={cfg.species.mjcf} leads out of dinorl/species, to a file that this "
            "policy was not trained on; it is not read"
        )
    return cfg


def load_meta(bundle: Path) -> dict[str, Any]:
    """Return what a bundle says of itself.

    Raises:
        ConfigError: it says too little.
    """
    meta = read_json(bundle / META)
    for key in ("species", "algo", "seed", "timesteps", "mjcf_sha256"):
        if key not in meta:
            raise ConfigError(f"{bundle / META}: expected {key} in it, found {', '.join(meta) or 'nothing'}")
    return meta


def outdated(bundle: Path) -> str | None:
    """Return why a bundle's numbers no longer hold, or None: its animal must be today's."""
    meta = load_meta(bundle)
    if meta["mjcf_sha256"] == mjcf_hash(load_config(bundle).species):
        return None
    return f"the model of {meta['species']} has changed since this policy was trained; its numbers no longer hold"


def load_policy(bundle: Path, model: BaseAlgorithm, env: VecNormalize) -> None:
    """Put a bundle's policy weights and observation statistics into a model: the hand-over between stages.

    Raises:
        ConfigError: the bundle is of another animal, algorithm or network.
    """
    meta = load_meta(bundle)
    state = read_arrays(bundle / POLICY)
    own = model.policy.state_dict()
    for key, value in own.items():
        if key not in state or state[key].shape != value.shape or state[key].dtype.kind != "f":
            found = "nothing" if key not in state else f"{state[key].dtype} {state[key].shape}"
            raise ConfigError(
                f"warm_start={bundle}: a policy of {meta.get('species')}/{meta.get('algo')} does not fit this stage: "
                f"expected {key} of float {tuple(value.shape)}, found {found}. Use the same species, algo and net_arch"
            )
    model.policy.load_state_dict({key: torch.from_numpy(state[key]) for key in own})
    if isinstance(model, StageSAC):
        model.average = None  # it begins anew, with the actor
    _load_statistics(read_arrays(bundle / NORMALIZATION), "obs", env.obs_rms)


def load_all(bundle: Path, model: BaseAlgorithm, env: VecNormalize) -> None:
    """Put everything of a bundle into the model that wrote it, or one built alike, and set the random states."""
    load_policy(bundle, model, env)
    optimizers = read_arrays(bundle / OPTIMIZER)
    for name, optimizer in _optimizers(model).items():
        found = optimizer.state_dict()
        for key, value in optimizers.items():
            owner, _, rest = key.partition("/")
            if owner == name and rest:
                index, _, what = rest.partition("/")
                found["state"].setdefault(int(index), {})[what] = torch.from_numpy(value)
        optimizer.load_state_dict(found)
    if "log_ent_coef" in optimizers:
        with torch.no_grad():
            model.log_ent_coef.copy_(torch.from_numpy(optimizers["log_ent_coef"]))  # type: ignore[attr-defined]
    learner = {key.removeprefix(LEARNER): value for key, value in optimizers.items() if key.startswith(LEARNER)}
    if learner and isinstance(model, StageSAC):
        model.average = copy.deepcopy(model.actor)
        model.actor.load_state_dict({key: torch.from_numpy(value) for key, value in learner.items()})
    normalization = read_arrays(bundle / NORMALIZATION)
    _load_statistics(normalization, "reward", env.ret_rms)
    env.returns = normalization["discounted_returns"]
    states = read_arrays(bundle / RANDOM)
    torch.set_rng_state(torch.from_numpy(states["torch"]))
    position, has_gauss, cached = states["numpy_rest"]
    np.random.set_state(("MT19937", states["numpy_keys"], int(position), int(has_gauss), float(cached)))
    random.setstate((random.getstate()[0], tuple(int(n) for n in states["python"]), None))


def check_network(bundle: Path, cfg: Config) -> None:
    """Refuse a network that a bundle's weights do not fill, before memory is asked for it.

    Raises:
        ConfigError: its config has more units than it has weights for.
    """
    layers = getattr(cfg, cfg.algo.name).policy_kwargs.net_arch
    needed = sum(a * b for a, b in itertools.pairwise(layers))
    found = sum(array.size for array in read_arrays(bundle / POLICY).values())
    if needed > found:
        raise ConfigError(
            f"{bundle / CONFIG}: {cfg.algo.name}.policy_kwargs.net_arch={layers} has more than {needed:,} weights, and "
            f"{POLICY} has {found:,}"
        )


def check_hand_over(bundle: Path) -> None:
    """Read everything that :func:`load_policy` needs; raises what reading damaged files raises."""
    load_meta(bundle)
    for name in (POLICY, NORMALIZATION):
        read_arrays(bundle / name)


def check(bundle: Path) -> None:
    """Read everything that :func:`load_all` needs; raises what reading damaged files raises."""
    check_hand_over(bundle)
    for name in (OPTIMIZER, RANDOM):
        read_arrays(bundle / name)


def _load_statistics(arrays: Mapping[str, np.ndarray], name: str, rms: Any) -> None:
    assert isinstance(rms, RunningMeanStd)  # a dictionary only for dictionary observations
    mean, var, count = (arrays.get(f"{name}_{what}") for what in ("mean", "var", "count"))
    if mean is None or var is None or count is None or count.size != 1 or {mean.shape, var.shape} != {rms.mean.shape}:
        raise ConfigError(
            f"{NORMALIZATION}: expected {name}_mean and {name}_var of shape {rms.mean.shape}, and their count"
        )
    rms.mean, rms.var, rms.count = mean, var, float(count)


def prune(folder: Path, keep: int) -> None:
    """Delete all but the newest ``keep`` numbered bundles of a ``bundle`` folder."""
    for old in numbered(folder)[keep:]:
        shutil.rmtree(old)


def _policy_arrays(model: BaseAlgorithm) -> dict[str, np.ndarray]:
    with model.averaged() if isinstance(model, StageSAC) else nullcontext():
        return _state_arrays(model.policy.state_dict())


def _state_arrays(state: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {key: value.detach().cpu().numpy() for key, value in state.items()}


def _optimizers(model: BaseAlgorithm) -> dict[str, torch.optim.Optimizer]:
    if not isinstance(model, SAC):
        return {"policy": model.policy.optimizer}
    found = {"actor": model.actor.optimizer, "critic": model.critic.optimizer}
    if model.ent_coef_optimizer is not None:
        found["ent_coef"] = model.ent_coef_optimizer
    return found


def _optimizer_arrays(model: BaseAlgorithm) -> dict[str, np.ndarray]:
    arrays = {
        f"{name}/{index}/{key}": np.asarray(value)
        for name, optimizer in _optimizers(model).items()
        for index, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
    }
    log_ent_coef = getattr(model, "log_ent_coef", None)
    if log_ent_coef is not None:
        arrays["log_ent_coef"] = log_ent_coef.detach().numpy()
    if isinstance(model, StageSAC) and model.average is not None:
        arrays |= {LEARNER + key: value for key, value in _state_arrays(model.actor.state_dict()).items()}
    return arrays


def _normalization_arrays(env: VecNormalize) -> dict[str, np.ndarray]:
    return {
        f"{name}_{key}": np.asarray(getattr(rms, key))
        for name, rms in (("obs", env.obs_rms), ("reward", env.ret_rms))
        for key in ("mean", "var", "count")
    } | {"discounted_returns": env.returns}


def _random_arrays() -> dict[str, np.ndarray]:
    _, keys, *rest = np.random.get_state()
    _, internal, _ = random.getstate()
    return {
        "torch": torch.get_rng_state().numpy(),
        "numpy_keys": np.asarray(keys),
        "numpy_rest": np.asarray(rest, dtype=np.float64),
        "python": np.asarray(internal, dtype=np.uint64),
    }
