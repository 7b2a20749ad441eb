"""Runs recorded, later ones compared with them, and what pytest demands of a model."""
