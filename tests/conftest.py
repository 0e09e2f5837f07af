"""Shared by all tests: small configs, and animals by name."""

from __future__ import annotations

import os

# the tests are about results, not about who else uses the cores
os.environ.setdefault("MUJOCO_GL", "egl")

SPECIES = ("velociraptor", "trex", "brachiosaurus")
