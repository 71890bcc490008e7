"""What both games share: V, M, C, their training data, the batched worlds, rollouts. Knows nothing of either game."""
