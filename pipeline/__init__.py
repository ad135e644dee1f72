"""Which steps run in which order: one file a stage."""
