"""Rules that say, for each kind of layer, how its channels depend on each other."""
