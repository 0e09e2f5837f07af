"""Shows a bundle's policy in MuJoCo's viewer, at real speed."""

from __future__ import annotations

import time

import mujoco
import mujoco.viewer

from dinorl.bundle.bundle import Bundle
from dinorl.bundle.film import EVENT_HELD, averaged
from dinorl.bundle.player import load_player
from dinorl.envs.batch import BatchEnv
from dinorl.sim.devices import on_cpu


def view(bundle: Bundle, seed: int | None = None) -> None:
    """Play a bundle's policy until the viewer is closed.

    Args:
        bundle: its policy acts.
        seed: of the episode; default the first evaluation seed.
    """
    cfg, policy = on_cpu(bundle.config), load_player(bundle)
    batch = BatchEnv(cfg, 1)
    batch.seed(cfg.eval.seed if seed is None else seed)
    observation = batch.reset()
    model = batch.animal.drawn
    data = mujoco.MjData(model)
    batch.sim.show(0, data)
    mujoco.mj_forward(model, data)
    event, speed, event_time = cfg.species.event.name.replace("_", " "), 0.0, 0.0
    with mujoco.viewer.launch_passive(model, data) as viewer:
        viewer.cam.type = mujoco.mjtCamera.mjCAMERA_TRACKING
        viewer.cam.trackbodyid = model.body("trunk").id
        while viewer.is_running():
            began = time.perf_counter()
            step = batch.step(policy(observation))
            observation = step.observation
            speed = averaged(speed, batch)
            event_time = began if step.success[0] else event_time
            shown = f"{event}!" if began - event_time < EVENT_HELD else ""
            with viewer.lock():
                batch.sim.show(0, data)
                mujoco.mj_forward(model, data)
            viewer.set_texts(
                (None, mujoco.mjtGridPos.mjGRID_BOTTOMLEFT, cfg.species.title, f"{speed:.1f} m/s  {shown}")
            )
            viewer.sync()
            time.sleep(max(0.0, batch.animal.control_timestep - (time.perf_counter() - began)))
