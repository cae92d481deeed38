"""Learning from sites that hold the same columns of different people."""
