"""Runs a policy on evaluation seeds, all episodes in parallel."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dinorl.config import Config
from dinorl.envs.batch import BatchEnv
from dinorl.evaluation.metrics import measure
from dinorl.evaluation.recorder import Recorder
from dinorl.sim.devices import on_cpu
from dinorl.sim.random import uniform

# (n, obs) float32 → (n, actuators)
Policy = Callable[[np.ndarray], np.ndarray]


class Evaluator:
    """A batch with one animal per episode, on seeds that training never uses, in MuJoCo on the CPU.

    Args:
        cfg: the composed config; its reward weights apply, whatever training ramps.
        episodes: default ``cfg.eval.episodes``.
        seed: of the first episode, default ``cfg.eval.seed``; episode ``i`` has ``seed + i``.
    """

    def __init__(self, cfg: Config, episodes: int | None = None, seed: int | None = None) -> None:
        self.batch = BatchEnv(on_cpu(cfg), cfg.eval.episodes if episodes is None else episodes)
        self.seed = cfg.eval.seed if seed is None else seed

    def run(self, policy: Policy) -> dict[str, float]:
        """Play one episode per animal.

        Returns:
            The metrics by name, and the mean episode sum of each reward term as ``reward.<term>``.
        """
        batch = self.batch
        animal, task = batch.animal, batch.task
        batch.seed(self.seed)
        observation = batch.reset()
        recorder = Recorder(
            batch.n, animal.control_timestep, task.body.foot_pairs, animal.weight, batch.cfg.env.natural_pitch
        )
        going = np.ones(batch.n, dtype=bool)
        sums = {name: np.zeros(batch.n) for name in task.active()}
        while going.any():
            step = batch.step(policy(observation), autoreset=False, only=np.flatnonzero(going))
            observation = step.observation
            recorder.add(batch.signals, step.reward, step.terminated & ~step.success, step.success, going)
            ids = step.episodes.ids
            for name, total in step.episodes.terms.items():
                first = going[ids]
                sums[name][ids[first]] = total[first]
            going[ids] = False
        return measure(recorder) | {f"reward.{name}": float(total.mean()) for name, total in sums.items()}

    def null_policies(self) -> dict[str, dict[str, float]]:
        """Return the metrics of the zero and the random policy, on the same seeds."""
        n, size = self.batch.n, self.batch.action_space.shape[0]
        step = 0

        def random(_: np.ndarray) -> np.ndarray:
            nonlocal step
            step += 1
            return 2.0 * uniform(np.arange(n), np.full(n, step), 0, size) - 1.0

        return {"zero": self.run(lambda _: np.zeros((n, size))), "random": self.run(random)}
