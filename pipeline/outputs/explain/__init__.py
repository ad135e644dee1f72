"""The story of one video, query or pair."""
