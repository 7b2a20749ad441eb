"""Broken, hostile and merely unusual models: each ends in one sentence and the documented exit code."""
