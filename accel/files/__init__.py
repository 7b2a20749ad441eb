"""Files and their formats: read within limits, written whole or not at all, JSON, the cache. Knows no simulator."""
