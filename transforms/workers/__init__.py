"""Where work runs: child processes with limits, and windows of calls that wait."""
