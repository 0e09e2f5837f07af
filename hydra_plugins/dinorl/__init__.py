"""Hydra looks for plugins only in the ``hydra_plugins`` namespace."""
