"""What quantisation costs and loses: errors, sensitivities, schemes side by side."""
