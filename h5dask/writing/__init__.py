"""Datasets to files: what is written where, and how values get there, whoever computes them."""
