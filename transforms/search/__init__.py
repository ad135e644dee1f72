"""Exact and reproducible search over vectors: packs of them, top-k, late interaction, fusion of runs."""
