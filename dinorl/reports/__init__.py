"""Tables for people: evaluations, the zoo, results."""

EPISODES = 200  # of an evaluation that is reported
SEED = 1000  # of its first episode; no training or gate uses these seeds
