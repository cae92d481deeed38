"""Joint statistics (联合统计): totals over the rows that two sites have in common, by groups, without a join that anyone sees."""
