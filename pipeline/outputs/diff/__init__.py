"""What changed between two outputs, and why."""
