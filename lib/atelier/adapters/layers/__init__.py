"""The layers of a base that get an adapter: which, under what name, at what rank and rate, and how it is attached."""
