"""Named training configurations, one YAML file each."""
