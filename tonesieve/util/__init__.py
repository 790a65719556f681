"""Files, progress and text tables; nothing here knows of signals."""
