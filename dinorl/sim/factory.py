"""Makes the physics backend."""

from __future__ import annotations

from dinorl.config import SimConfig
from dinorl.sim.cpu import CpuSimulation
from dinorl.sim.interface import Simulation
from dinorl.sim.model import Animal


def make_simulation(animal: Animal, sim: SimConfig, n: int) -> Simulation:
    """Return ``n`` simulations of an animal."""
    return CpuSimulation(animal, n, sim.frame_skip, sim.threads)
