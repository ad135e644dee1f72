"""Where it runs: the local runner, and what a run says while it works."""
