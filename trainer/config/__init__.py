"""Training configurations: presets, overrides, checks."""
