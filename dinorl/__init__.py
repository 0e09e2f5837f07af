"""dinorl: teaches MuJoCo dinosaurs to balance, to move, and to strike, bite or reach."""

import ctypes
import os
import sys

__version__ = "0.1.0"

# MuJoCo chooses its OpenGL when it is first imported. Without a screen only EGL draws; where its library is missing
# that import would fail, and training needs no drawing.
if sys.platform.startswith("linux") and not os.environ.get("DISPLAY") and "MUJOCO_GL" not in os.environ:
    try:
        ctypes.CDLL("libEGL.so.1")
        os.environ["MUJOCO_GL"] = "egl"
    except OSError:
        os.environ["MUJOCO_GL"] = "disabled"

# torch's OpenMP threads wait for work by spinning, for milliseconds: physics and other jobs on the same cores starve.
# Beside another training on two cores a PPO training made 460 steps/s with GCC's default of 300,000 rounds and 5,800
# with this; alone it is 6 % faster, SAC 10 % slower. It is read when torch is first imported.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

from dinorl.envs.registration import register_all  # noqa: E402  after the environment is set

register_all()
