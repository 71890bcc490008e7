"""CarRacing, and its dream."""
