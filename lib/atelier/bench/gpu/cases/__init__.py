"""The cases: each file offers a `CASE`, and nothing lists them."""
