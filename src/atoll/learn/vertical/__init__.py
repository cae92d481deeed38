"""Learning where sites hold different columns of the same rows."""
