"""What goes in: synthetic records and real recordings."""
