"""One data-parallel step a file: a plain function, and a PTransform of the same verb over it."""
