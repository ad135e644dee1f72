"""Reaching a server: keys, connections, faults, pace and retries."""
