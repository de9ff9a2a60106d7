"""From a configuration to the pieces it describes: settings, architecture, objective, everything a run is made of."""
