"""Settings: their schema, reading and merging, presets and warnings."""
