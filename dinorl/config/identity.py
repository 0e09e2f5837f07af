"""Hash of a training job: its config, ancestors and animal."""

from __future__ import annotations

import hashlib
import json

from dinorl.config.schema import Config
from dinorl.config.species import mjcf_hash, mjcf_path
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


def job_key(config: Config, parent: str | None) -> str:
    """Return the hash of a stage's config, its parent job's key and the animal's MJCF."""
    start = parent if parent is not None else config.warm_start
    body = mjcf_hash(config.species) if mjcf_path(config.species).is_file() else None  # an error later
    text = json.dumps([trained_on(config), start, body], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
