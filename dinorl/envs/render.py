"""Pictures of an animal of the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mujoco
import numpy as np

from dinorl.sim.model import CAMERA

if TYPE_CHECKING:
    from dinorl.envs.batch import BatchEnv

WIDTH, HEIGHT = 640, 480


def check_picture(model: mujoco.MjModel, width: int, height: int, camera: str | int) -> None:
    """Check the arguments of a :class:`Camera`.

    Raises:
        ValueError: a size is no positive integer, or the model has no such camera.
    """
    for name, size in (("width", width), ("height", height)):
        if not isinstance(size, (int, np.integer)) or size < 1:
            raise ValueError(f"{name}={size!r}: expected an integer ≥ 1")
    names = [model.camera(i).name for i in range(model.ncam)]
    if camera not in (range(model.ncam) if isinstance(camera, (int, np.integer)) else names):
        raise ValueError(f"camera={camera!r}: expected one of {names}, or its id in 0..{model.ncam - 1}")


class Camera:
    """Draws animals of a batch from a camera of their MJCF.

    Args:
        batch: the animals.
        width, height: of the picture, pixels.
        camera: name or id of a camera in the MJCF.

    Raises:
        RuntimeError: there is no OpenGL to draw with.
    """

    def __init__(self, batch: BatchEnv, width: int = WIDTH, height: int = HEIGHT, camera: str | int = CAMERA) -> None:
        self._batch = batch
        self._camera = camera
        self._model = batch.animal.drawn
        self._data = mujoco.MjData(self._model)
        buffer = self._model.vis.global_
        buffer.offwidth, buffer.offheight = max(buffer.offwidth, width), max(buffer.offheight, height)
        try:
            self._renderer = mujoco.Renderer(self._model, height, width)
        except Exception as error:  # each driver raises its own
            raise RuntimeError(
                f"cannot draw: {error}. Without a screen, install an EGL driver (Debian: apt-get install libegl1 "
                "libgl1-mesa-dri) and set MUJOCO_GL=egl"
            ) from error

    def picture(self, index: int) -> np.ndarray:
        """Return animal ``index`` as (height, width, 3) uint8."""
        self._batch.sim.show(index, self._data)
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        self._renderer.update_scene(self._data, self._camera)
        return np.asarray(self._renderer.render())

    def close(self) -> None:
        """Free the OpenGL context."""
        self._renderer.close()
