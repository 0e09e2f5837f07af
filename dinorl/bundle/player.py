"""A bundle's policy as a function: (n, obs) observations to (n, actuators) actions."""

from __future__ import annotations

from dinorl.bundle.bundle import Bundle
from dinorl.evaluation.evaluator import Policy
from dinorl.learners.base import make_learner


def load_player(bundle: Bundle) -> Policy:
    """Return the deterministic policy of a bundle, with frozen observation statistics.

    Raises:
        ConfigError: the bundle is damaged.
    """
    bundle.check_network()
    learner = make_learner(bundle.config, learning=False)
    bundle.warm_start(learner)
    return learner.policy()
