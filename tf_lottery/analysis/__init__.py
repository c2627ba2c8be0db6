"""Look at sparse networks and at what experiments found."""
