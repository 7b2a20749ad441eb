"""Energy: tables, laws, technologies, gating, formats, exchange, area."""
