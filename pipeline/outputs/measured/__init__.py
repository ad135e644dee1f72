"""What an output says of its queries by measure, beside what their writer says: what their labels rest on."""
