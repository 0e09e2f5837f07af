"""Hydra finds plugins in the ``hydra_plugins`` namespace alone."""
