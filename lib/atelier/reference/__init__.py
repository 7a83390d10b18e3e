"""The pages of docs/ that are made from the program itself, so that they say what it does."""
