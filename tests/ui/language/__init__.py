"""The page in other languages: the files of their words."""
