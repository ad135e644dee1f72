"""Where it runs: from a request to a job, and the local runner."""
