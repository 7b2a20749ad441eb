"""From bytes to typed operators: what is loaded, refused, recognised."""
