"""Where it runs: the command line and the local runner."""
