"""Models, data and whole experiments of the papers."""
