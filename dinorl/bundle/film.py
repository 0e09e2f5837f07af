"""Films a bundle's policy at real speed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dinorl.bundle.bundle import Bundle
from dinorl.bundle.player import load_player
from dinorl.config import ConfigError
from dinorl.envs.batch import BatchEnv
from dinorl.envs.render import Camera
from dinorl.sim.devices import on_cpu

FORMATS = (".mp4", ".gif")
FPS = 25  # every second control step at 50 Hz
GIF_FPS, GIF_SIZE = 12.5, (320, 240)  # GIFs grow fast
SPEED_WINDOW = 0.5  # s, averages the shown speed
EVENT_HELD = 0.6  # s, freeze frame at the event


def film(bundle: Bundle, path: Path, seconds: float, seed: int | None = None) -> Path:
    """Play a bundle's policy on an evaluation seed and write the film.

    Args:
        bundle: its policy acts.
        path: of the film, .mp4 or .gif.
        seconds: length of the film: consecutive episodes, with a freeze frame at each event.
        seed: default the first evaluation seed.

    Raises:
        ConfigError: the film has another format.
        RuntimeError: there is no OpenGL to draw with.
    """
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"{path}: expected a film that ends in {' or '.join(FORMATS)}")
    cfg, policy = on_cpu(bundle.config), load_player(bundle)
    batch = BatchEnv(cfg, 1)
    batch.seed(cfg.eval.seed if seed is None else seed)
    observation = batch.reset()
    gif = path.suffix.lower() == ".gif"
    camera = Camera(batch, *(GIF_SIZE if gif else ()))
    dt = batch.animal.control_timestep
    every = max(1, round(1.0 / ((GIF_FPS if gif else FPS) * dt)))
    # GIF: ms per picture; 0: loop forever
    timing: dict[str, Any] = {"duration": 1000.0 * every * dt, "loop": 0} if gif else {"fps": 1.0 / (every * dt)}
    event, title = cfg.species.event.name.replace("_", " "), cfg.species.title
    length, held = round(seconds / (every * dt)), round(EVENT_HELD / (every * dt))
    written = step = 0
    speed = 0.0
    with imageio.get_writer(path, **timing) as writer:
        while written < length:
            if step % every == 0:
                picture = camera.picture(0)
                writer.append_data(subtitled(picture, title, f"{speed:.1f} m/s"))  # type: ignore[attr-defined]
                written += 1
            taken = batch.step(policy(observation))
            observation = taken.observation
            speed = averaged(speed, batch)
            step += 1
            if not taken.episodes.ids.size:
                continue
            if taken.success[0]:  # the next picture shows another episode
                happened = subtitled(picture, title, f"{speed:.1f} m/s", f"{event}!")
                for _ in range(min(held, length - written)):
                    writer.append_data(happened)  # type: ignore[attr-defined]
                    written += 1
            speed = 0.0
    camera.close()
    return path


def averaged(speed: float, batch: BatchEnv) -> float:
    """Return the first animal's speed ahead, m/s, averaged over :data:`SPEED_WINDOW`, after one more step."""
    new = float(batch.signals.velocity_h[0, 0])
    return speed + (new - speed) * batch.animal.control_timestep / SPEED_WINDOW


def subtitled(picture: np.ndarray, *texts: str) -> np.ndarray:
    """Return a (height, width, 3) picture with a caption at its lower edge."""
    image = Image.fromarray(picture)
    height = image.height // 18
    ImageDraw.Draw(image).text(
        (height // 2, image.height - 1.5 * height), "   ".join(filter(None, texts)), fill="white",
        font=ImageFont.load_default(height), stroke_width=max(1, height // 10), stroke_fill="black",
    )  # fmt: skip
    return np.asarray(image)
