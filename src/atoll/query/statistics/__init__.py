"""Joint statistics (联合统计): totals over the rows that two sites have in common, without a join that anyone sees."""
