"""What an engine of each modality can do; every adapter implements one of these."""
