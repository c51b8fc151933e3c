"""Engine `replay`: real stores and real bytes, modelled GPU time."""
