"""An output in the formats of other projects."""
