"""What measures of a network share: its loss as a function of weights, on a batch."""
