"""Hash of a training job: its config, ancestors and animal."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

from dinorl.config.errors import ConfigError
from dinorl.config.schema import Config, SpeciesConfig
from dinorl.config.species import file_hash, mjcf_hash
from dinorl.config.strict import flatten

NOT_TRAINED_ON = (
    "tracking", "warm_start", "resume", "plan_only", "eval.keep", "eval.video_seconds", "sim.threads",
)  # fmt: skip


def trained_on(config: Config) -> dict[str, object]:
    """Return the keys that affect training, ``{"ppo.gamma": …}``."""
    return {
        key: value
        for key, value in flatten(config).items()
        if key not in NOT_TRAINED_ON and key.partition(".")[0] not in NOT_TRAINED_ON
    }


def identity(config: Config) -> str:
    """Return the hash of a stage's job, its ancestors included.

    The sweeper sets it for each job; a config composed alone has no ancestor but ``warm_start``.
    """
    return config.tracking.job or job_key(config, None)


def job_key(config: Config, parent: str | None, body_hash: Callable[[SpeciesConfig], str] = mjcf_hash) -> str:
    """Return the hash of a stage's config, its parent job's key and the animal's model.

    Args:
        config: of the stage.
        parent: key of its parent job.
        body_hash: identity of the model.
    """
    start = parent if parent is not None else config.warm_start
    try:
        body = body_hash(config.species)
    except (ConfigError, OSError):  # the check of the body says it
        body = None
    text = json.dumps([trained_on(config), start, body], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def old_job_key(config: Config, parent: str | None) -> str:
    """Return the key that dinorl 0.1 gave a job: with the hash of the MJCF's text."""
    return job_key(config, parent, file_hash)
