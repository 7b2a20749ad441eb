"""What explain says."""
