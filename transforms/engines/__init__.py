"""Adapters: one engine a module, behind the protocols of its modality."""
