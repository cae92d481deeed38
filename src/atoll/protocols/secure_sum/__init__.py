"""Sums over all sites of which nobody sees a single site's part."""
