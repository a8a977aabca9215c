"""Jobs flow while whatever can die is killed; afterwards the database says whether one was lost, doubled or stuck."""
