"""Tests of atelier.ui.server and of the forms that it keeps."""
