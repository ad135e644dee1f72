"""The root of all errors that a user of the trainer can cure."""


class TrainingError(ValueError):
    """What was asked for cannot be trained on, or with; one line that names the fix."""
