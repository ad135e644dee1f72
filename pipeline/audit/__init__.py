"""An audit of the judge: what its labels and margins are worth, from an output and from questions put to it again."""
