"""Reports: what is read back, drawn, compared, and what a browser makes of the page."""
