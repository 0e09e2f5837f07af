"""Makes the physics backend."""

from __future__ import annotations

from dinorl.config import SimConfig
from dinorl.sim.cpu import CpuSimulation
from dinorl.sim.devices import physics_device
from dinorl.sim.interface import Simulation
from dinorl.sim.model import Animal


def make_simulation(animal: Animal, sim: SimConfig, n: int) -> Simulation:
    """Return ``n`` simulations of an animal.

    Raises:
        ConfigError: the backend or its device is missing.
    """
    if sim.backend == "cpu":
        return CpuSimulation(animal, n, sim.frame_skip, sim.threads)
    physics_device(sim)  # says what is missing
    from dinorl.sim.warp import WarpSimulation  # needs the extra gpu

    return WarpSimulation(animal, n, sim)
