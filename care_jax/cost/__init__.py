"""What a configuration costs on hardware that one does not have: its step, compiled for it on any machine."""
