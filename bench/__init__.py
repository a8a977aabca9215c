"""Everything that produced a figure: training the starter, measuring it, and the results."""
