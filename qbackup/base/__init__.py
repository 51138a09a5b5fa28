"""Values that several floors exchange: errors, limits, names and reports. No behaviour."""
