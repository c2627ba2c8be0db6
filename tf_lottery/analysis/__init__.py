"""Analyzes sparse networks (costs, sparsity, connectivity) and plots results of experiments."""
