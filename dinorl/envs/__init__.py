"""Environments: the batch, and its views for Stable-Baselines3 and Gymnasium."""
