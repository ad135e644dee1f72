"""Media files: containers, streams, frames, sound, and packs of frames."""
