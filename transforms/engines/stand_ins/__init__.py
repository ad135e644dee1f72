"""Engines made of rules, for trying out and testing: named as such wherever they wrote a row."""
