"""What ``dinorl.benchmarks.report`` measures, and what it compares with."""
