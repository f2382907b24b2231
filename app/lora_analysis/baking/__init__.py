"""Checkpoints and adapters: adding deltas to base weights, and finding the adapter between two checkpoints."""
