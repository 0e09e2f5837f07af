"""dinorl: teaches MuJoCo dinosaurs to balance, to move, and to strike, bite or reach."""

import os
import sys

__version__ = "0.1.0"

# MuJoCo chooses its OpenGL when it is first imported; without a screen only EGL draws.
if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
    os.environ.setdefault("MUJOCO_GL", "egl")

from dinorl.envs.registration import register_all  # noqa: E402  after the choice of OpenGL

register_all()
