"""From a list of videos to evidence: decode, transcribe, read text, caption."""
