"""DoomTakeCover: ViZDoom's take_cover as the paper played it, and its dream."""
