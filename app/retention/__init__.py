"""For how long recordings stay, and how they go."""
