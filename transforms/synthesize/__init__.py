"""From evidence to queries: write them, and filter them."""
