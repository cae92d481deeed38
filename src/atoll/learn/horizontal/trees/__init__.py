"""Boosted trees and random forests over sites, by totals of histograms; equal to the pooled ones split by split."""
