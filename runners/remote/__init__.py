"""Where a run goes beyond this process: a room a runner, and submitting, waiting and finishing apart."""
