"""Atoll in a notebook: whole jobs and estimators, with all sites in one process."""
