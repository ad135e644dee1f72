"""Data-parallel steps, a room a stage; what the stages stand on, in rooms beside them."""
