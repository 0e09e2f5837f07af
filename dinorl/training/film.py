"""Films a bundle's policy at real speed."""

from __future__ import annotations

from pathlib import Path

import imageio.v2 as imageio

from dinorl.envs.batch import BatchEnv
from dinorl.envs.render import Camera
from dinorl.training import bundle
from dinorl.training.policy import load_player

FPS = 25  # a picture every other control step at 50 Hz


def film(source: Path, path: Path, seconds: float, seed: int | None = None) -> Path:
    """Play a bundle's policy on an evaluation seed and write what is seen.

    Args:
        source: the bundle.
        path: of the film; its ending says the format (.mp4, .gif).
        seconds: of the animal's time, which is the film's length; episodes follow each other.
        seed: default the first evaluation seed.

    Raises:
        RuntimeError: there is no OpenGL to draw with.
    """
    cfg = bundle.load_config(source)
    policy = load_player(source)
    batch = BatchEnv(cfg, 1)
    batch.seed(cfg.eval.seed if seed is None else seed)
    observation = batch.reset()
    camera = Camera(batch)
    dt = batch.animal.control_timestep
    every = max(1, round(1.0 / (FPS * dt)))
    with imageio.get_writer(path, fps=1.0 / (every * dt)) as writer:
        for step in range(round(seconds / dt)):
            if step % every == 0:
                writer.append_data(camera.picture(0))  # type: ignore[attr-defined]  # imageio types no writer
            observation = batch.step(policy(observation)).observation
    camera.close()
    return path
