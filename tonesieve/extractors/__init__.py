"""What takes a tone out of a mixture."""
