"""What the terminal prints about a result."""
