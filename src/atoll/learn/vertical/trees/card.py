"""The card of vertical boosted trees: what a reviewer reads before approving a job with it."""

from atoll.core.protocol import Card

TRAINING = Card(
    source="XGBoost's histogram method (Chen and Guestrin, KDD 2016) on the fixed-matrix product; the flow is "
    "SecureBoost's (Cheng et al., IEEE Intelligent Systems 2021) without its node membership.",
    security="Semi-honest. The label holder's vectors stay private against a malicious feature holder, selective "
    "failure aside. The feature holder's bins are protected against a semi-honest label holder only, and only while "
    "vectors are few: T <= n/100, which the feature holder enforces. Parameter set H40, 173 bits.",
    inputs="label holder: label (n,) in {0, 1}, own columns, validation rows (n,). feature holder: columns of the same "
    "n rows in the same order. n >= 1,000; quantile bins, at most `max_bin` a column, at least `min_bin` rows each.",
    reveals={
        "label_holder": (
            "For every feature holder the number of features, and of each its number of bins, whether it is "
            "categorical, and whether it has missing values; names and thresholds stay hidden, features are shuffled.",
            "Ordered per-bin sums of first and second derivatives of every opened node, T = 2 vectors for each queried "
            "node (a sibling's sums follow by subtraction); each is a linear equation about every row's bins.",
            "One bit for each node member and foreign split: the side it goes to.",
            "How many trees a feature holder has kept of a try that was cut off, and how many vectors all tries took.",
        ),
        "feature_holder": (
            "The number n of rows, the number of trees (early stopping included), and the number of vectors of each "
            "level and tree.",
            "Which of its own (feature, threshold) pairs win, with their default side, and in what order by level.",
            "Not: labels, derivatives, gains, node membership, others' splits, which rows are validation rows.",
        ),
    },
    cost="For each feature holder and tree at most 2^depth vectors through the product, 3 bytes for each of 2,048 x k "
    "numbers (k bins, less one for each numeric feature) and 5 for each row; for each level with m > 0 splits n "
    "transfers of 1 bit out of m + 1; 2 small messages a level beside them.",
    fails="InputError on other row counts or unusable columns and labels, ContractError where T would exceed n/100 "
    "(before anything is sent), ProtocolError on messages out of order or of wrong shape.",
    assurance="tested",
    notes=(
        "SecureBoost shows its label holder the same per-bin sums of every node, and shows feature holders the members "
        "of every node besides; here they learn no membership.",
        "A label holder that departs from the protocol reads the bins of 60 chosen persons with one vector; limits and "
        "audit do not stop that, noise from a privacy budget would.",
        "n/100 is a rule of thumb from attacks that were run, not a proof: at T = n/25 a solver found 19 % of the bins "
        "(chance 3 %), at T = n nearly all. The report prints T/n, with T = 2 x queried nodes.",
        "Nodes under `min_node` rows (20 x bins by default) are not opened, and their sums do not follow from others: "
        "a sibling is then served by its parent's sums, less the few rows too many in proportion to every bin. A bin "
        "of an opened node may still hold few of its rows.",
        "A try that was cut off goes on after the last tree that all sites kept, with new masks, pads and transfers; "
        "vectors of the tree that was cut off stay counted, and trees end early where n/100 would be exceeded.",
        "Sums over foreign bins come with an error: for 80,000 rows in 32 bins, that of a bin's sum of first "
        "derivatives has a standard deviation of 0.05 at the root, where the sum's own is 25, and less below. "
        "Leaf weights are exact.",
        "With `pad_shape` the numbers of vectors and splits of a level are always the same; the split lists then hold "
        "random ones beside the winners.",
    ),
)

PREDICTION = Card(
    source="The reading of SecureBoost's inference by one oblivious transfer for each row, tree and level.",
    security="Semi-honest, computational, 128 bits; the label holder's choices are hidden by oblivious transfer.",
    inputs="label holder: its part of the model and own columns (n rows). feature holder: its part and its columns of "
    "the same rows in the same order.",
    reveals={
        "label_holder": ("One bit for each row, tree and level whose node a foreign split decides: its side.",),
        "feature_holder": ("The model's id and the number of rows; nothing of the paths, which carry no node ids.",),
    },
    cost="For each level, n x trees transfers of 1 bit out of m + 1, m the largest number of the site's splits of that "
    "level in one tree.",
    fails="InputError where parts belong to different models, row counts differ, or a column or category is unknown; "
    "ProtocolError on messages out of order or of wrong shape.",
    assurance="tested",
)
