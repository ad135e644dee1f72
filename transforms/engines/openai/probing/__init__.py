"""What a server really does with what is asked of it, seen before any work starts."""
