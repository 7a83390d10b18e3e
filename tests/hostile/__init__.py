"""Files made to be slow, large or misleading, and the fuzzer."""
