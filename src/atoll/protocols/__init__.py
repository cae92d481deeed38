"""Small multi-party protocols: the card, the messages and both roles of each in one file."""
