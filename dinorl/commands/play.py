"""Watch a policy: ``python -m dinorl.play BUNDLE [--video FILE] [--seconds S] [--seed N]``.

With a screen the interactive viewer opens; without one, or with ``--video``, a film at real speed is written.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from dinorl.config import ConfigError


def main(arguments: list[str] | None = None) -> int:
    """Play a bundle's policy; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m dinorl.commands.play", description="Watch a trained policy.")
    parser.add_argument("bundle", help="a bundle, a stage's run folder, an MLflow run id or a zoo name (trex/bite)")
    parser.add_argument("--video", type=Path, help="write a film (.mp4, .gif) instead of opening the viewer")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the film, s (default %(default)g)")
    parser.add_argument("--seed", type=int, help="of the episode (default: the first evaluation seed)")
    chosen = parser.parse_args(arguments)
    from dinorl.bundle.locate import resolve
    from dinorl.reports.zoo import outdated

    try:
        source = resolve(chosen.bundle)
        if why := outdated(source):
            print(why)
        if chosen.video is None and os.environ.get("DISPLAY"):
            _view(source, chosen.seed)
            return 0
        from dinorl.bundle.film import film  # torch takes seconds to import

        path = film(source, chosen.video or Path("play.mp4"), chosen.seconds, chosen.seed)
    except (ConfigError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"wrote {path}")
    return 0


def _view(source: Path, seed: int | None) -> None:
    """Open MuJoCo's viewer and play at real speed until it is closed."""
    import mujoco
    import mujoco.viewer

    from dinorl.bundle import bundle
    from dinorl.bundle.film import EVENT_HELD, averaged
    from dinorl.bundle.player import load_player
    from dinorl.envs.batch import BatchEnv

    cfg = bundle.load_config(source)
    policy = load_player(source)
    batch = BatchEnv(cfg, 1)
    batch.seed(cfg.eval.seed if seed is None else seed)
    observation = batch.reset()
    model = batch.animal.drawn
    data = mujoco.MjData(model)
    batch.sim.show(0, data)
    mujoco.mj_forward(model, data)
    event, speed, happened = cfg.species.event.name.replace("_", " "), 0.0, 0.0
    with mujoco.viewer.launch_passive(model, data) as viewer:
        viewer.cam.type = mujoco.mjtCamera.mjCAMERA_TRACKING
        viewer.cam.trackbodyid = model.body("trunk").id
        while viewer.is_running():
            begun = time.perf_counter()
            step = batch.step(policy(observation))
            observation = step.observation
            speed = averaged(speed, batch)
            happened = begun if step.success[0] else happened
            told = f"{event}!" if begun - happened < EVENT_HELD else ""
            with viewer.lock():
                batch.sim.show(0, data)
                mujoco.mj_forward(model, data)
            viewer.set_texts((None, mujoco.mjtGridPos.mjGRID_BOTTOMLEFT, cfg.species.title, f"{speed:.1f} m/s  {told}"))
            viewer.sync()
            time.sleep(max(0.0, batch.animal.control_timestep - (time.perf_counter() - begun)))


if __name__ == "__main__":
    sys.exit(main())
