"""K models trained as one program. Knows torch and the science floor, no YAML and no service."""
