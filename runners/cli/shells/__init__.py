"""Completion in shells: what may stand where on the command line, and a script a shell that knows it."""
