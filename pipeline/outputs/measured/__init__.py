"""What an output says of its queries by measure: how hard they are, how specific, and what labels rest on."""
