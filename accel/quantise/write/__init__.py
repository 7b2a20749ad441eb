"""The quantised file: widths, weights, where quantisers stand, how codes are stored."""
