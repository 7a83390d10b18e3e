"""The texts for people: links, names of files, commands and labels in them."""
