"""An output folder: tables and manifest, staged, published, locked; what reads it is in rooms of its own."""
