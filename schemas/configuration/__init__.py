"""Configurations of people: YAML files and settings, and the records that check them."""
