"""Named configurations of retrievers, one YAML file each."""
