"""Small sizes for a first look."""

VALUES: dict[str, object] = {}
