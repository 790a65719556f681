"""Real recordings, in and out: any format, any length, with gaps."""
