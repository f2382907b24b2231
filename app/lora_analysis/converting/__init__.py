"""Conversion of an adapter into another dialect of the same base model: other names, the same deltas."""
