"""Settings of programs that are not kohya's, each read where its keys are plain."""
