"""What people say of an output: marks of what is wrong, and answers to blind questions."""
