"""The charts of a report, one module each, drawn by matplotlib without a display."""
