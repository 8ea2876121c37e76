"""The contact sheet of a batch: all pictures with their states and charges in one HTML file."""
