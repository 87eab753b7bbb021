"""Quart blueprints: every route there is."""
