"""From YAML to typed, frozen values. Below this floor nobody sees a file, a flag or a default."""
