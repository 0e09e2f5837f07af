"""A bundle's policy, ready to act: (n, obs) observations in, (n, actuators) actions out."""

from __future__ import annotations

from dinorl.bundle.bundle import Bundle
from dinorl.evaluation.evaluator import Policy
from dinorl.learners.base import make_learner


def load_player(bundle: Bundle) -> Policy:
    """Return the deterministic policy of a bundle, its observation statistics included and frozen.

    Raises:
        ConfigError: the bundle is damaged.
    """
    bundle.check_network()
    learner = make_learner(bundle.config, learning=False)
    bundle.warm_start(learner)
    return learner.policy()
