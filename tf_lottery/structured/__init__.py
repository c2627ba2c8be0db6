"""Channels across layers: the graph of a model, and which channels belong together."""
