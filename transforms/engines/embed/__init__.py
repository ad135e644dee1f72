"""Embedders in this process: texts and frames to vectors."""
