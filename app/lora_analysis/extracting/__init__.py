"""The adapter between two checkpoints: differences of weights, factored."""
