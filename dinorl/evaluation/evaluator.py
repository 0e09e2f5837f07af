"""Runs a policy on evaluation seeds, every episode in parallel."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dinorl.config import Config
from dinorl.envs.batch import BatchEnv
from dinorl.evaluation.metrics import Recorder
from dinorl.sim.random import uniform

# (n, obs) float32 → (n, actuators)
Policy = Callable[[np.ndarray], np.ndarray]


class Evaluator:
    """An environment of its own, with one animal per episode and seeds that training never uses.

    Args:
        cfg: the composed config; rewards and gates are judged with its weights, whatever training ramps.
        episodes: default ``cfg.eval.episodes``.
        seed: of the first episode, default ``cfg.eval.seed``; episode ``i`` has ``seed + i``.
    """

    def __init__(self, cfg: Config, episodes: int | None = None, seed: int | None = None) -> None:
        self.batch = BatchEnv(cfg, cfg.eval.episodes if episodes is None else episodes)
        self.seed = cfg.eval.seed if seed is None else seed

    def run(self, policy: Policy) -> dict[str, float]:
        """Play one episode per animal and return the metrics, with each reward term's share under ``reward.<term>``."""
        batch = self.batch
        body = batch.task.body
        batch.seed(self.seed)
        observation = batch.reset()
        recorder = Recorder(
            batch.n, batch.animal.control_timestep, body.foot_pairs, batch.animal.mass, batch.cfg.env.natural_pitch
        )
        going = np.ones(batch.n, dtype=bool)
        sums = {name: np.zeros(batch.n) for name in batch.task.active()}
        while going.any():
            step = batch.step(policy(observation), autoreset=False, only=np.flatnonzero(going))
            observation = step.observation
            recorder.add(batch.signals, step.reward, step.terminated & ~step.success, step.success, going)
            ids = step.episodes.ids
            for name, total in step.episodes.terms.items():
                first = going[ids]
                sums[name][ids[first]] = total[first]
            going[ids] = False
        return recorder.metrics() | {f"reward.{name}": float(total.mean()) for name, total in sums.items()}

    def null_policies(self) -> dict[str, dict[str, float]]:
        """Return the metrics of doing nothing and of acting at random, on the same seeds."""
        n, size = self.batch.n, self.batch.action_space.shape[0]
        step = 0

        def random(_: np.ndarray) -> np.ndarray:
            nonlocal step
            step += 1
            return 2.0 * uniform(np.arange(n), np.full(n, step), 0, size) - 1.0

        return {"zero": self.run(lambda _: np.zeros((n, size))), "random": self.run(random)}
