"""Environments: the batch and its Gymnasium views."""
