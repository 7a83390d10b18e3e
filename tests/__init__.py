"""The tests: a folder for each room of lib/atelier, and some of their own."""
