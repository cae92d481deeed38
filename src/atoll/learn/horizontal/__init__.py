"""Models over the rows of many sites, through nothing but sums over all sites; equal to the pooled ones.

Every site runs the same coroutine on its own rows: `await linear.fit(totals, X, y, LinearParams())`. `totals` adds
vectors up over the sites and gives all of them the sum. So all sites end with the same model, and nobody sees more of
another site's rows than the sums say; the head of every module lists them.

What sums cannot hide: with two sites, each knows the other's part of every sum, for it knows its own. A site with few
rows should therefore not take part beside one other only, and figures of small groups are figures of people.
"""
