"""On-screen text, read by a library or a program of this machine."""
