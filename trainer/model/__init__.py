"""Models, prompts, scores and losses."""
