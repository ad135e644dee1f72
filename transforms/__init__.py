"""Data-parallel steps, a room a stage; what they stand on, in rooms of its own."""
