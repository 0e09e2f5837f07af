"""Hash of a training job: its config, ancestors and animal."""

from __future__ import annotations

import hashlib
import json

from dinorl.config.errors import ConfigError
from dinorl.config.schema import Config
from dinorl.config.species import file_hash, mjcf_hash
from dinorl.config.strict import flatten

NOT_TRAINED_ON = (
    "tracking", "warm_start", "resume", "plan_only", "eval.keep", "eval.video_seconds", "sim.threads",
)  # fmt: skip


def trained_on(config: Config) -> dict[str, object]:
    """Return the keys that affect training, ``{"ppo.gamma": …}``."""
    before = _as_before(config)
    return {key: value for key, value in flatten(config).items() if affects_training(key) and key not in before}


def affects_training(key: str) -> bool:
    """Whether a key of the composed config affects training."""
    return key not in NOT_TRAINED_ON and key.partition(".")[0] not in NOT_TRAINED_ON


def _as_before(config: Config) -> list[str]:
    """Return keys that older runs lack, where they change nothing: those runs stay valid."""
    sim, algo = config.sim, config.algo
    keys = ["sim.backend", "sim.device", "sim.deterministic"] if sim.backend == "cpu" else []
    if algo.device == "cpu" or (algo.device == "auto" and "cpu" in (sim.backend, sim.device)):
        keys.append("algo.device")
    updates = (f"curriculum.{what}_updates" for what in ("warmup", "ramp"))
    return keys + [key for key in updates if not getattr(config.curriculum, key.partition(".")[2])]


def identity(config: Config) -> str:
    """Return the hash of a stage's job, its ancestors included.

    The sweeper sets it for each job; a config composed alone has no ancestor but ``warm_start``.
    """
    return config.tracking.job or job_key(config, None)


def job_key(config: Config, parent: str | None) -> str:
    """Return the hash of a stage's config, its parent job's key and the animal's model, wherever its file lies.

    Args:
        config: of the stage.
        parent: key of its parent job.
    """
    keys = trained_on(config)
    try:
        body = mjcf_hash(config.species)
        del keys["species.mjcf"]
    except (ConfigError, OSError):  # the check of the body says it
        body = None
    return _key(keys, config, parent, body)


def old_job_key(config: Config, parent: str | None) -> str:
    """Return the key that dinorl 0.1 gave a job: with the path and the hash of the MJCF's text."""
    try:
        body = file_hash(config.species)
    except OSError:
        body = None
    return _key(trained_on(config), config, parent, body)


def _key(keys: dict[str, object], config: Config, parent: str | None, body: str | None) -> str:
    start = parent if parent is not None else config.warm_start
    return hashlib.sha256(json.dumps([keys, start, body], sort_keys=True).encode()).hexdigest()
