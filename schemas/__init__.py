"""What flows through the pipeline: frozen records, the Arrow schema of every table, and content fingerprints."""
