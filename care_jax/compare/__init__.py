"""Runs beside each other: their settings, numbers and curves; reads no data and no checkpoint, starts no device."""
