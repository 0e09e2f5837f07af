"""Verdicts on runs: read from MLflow, compare, diagnose, promote."""
