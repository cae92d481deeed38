"""Models: learning over rows or columns that stay at their sites."""
