"""A page for looking at an output: lists that filter and sort, groups with their frames, marks, blind labelling."""
