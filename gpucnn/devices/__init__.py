"""Devices: where arrays live and kernel text becomes a callable."""
