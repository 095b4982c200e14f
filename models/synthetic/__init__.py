"""Data about which everything is known: lines, a spiral, a ring of Gaussians, melodies."""
