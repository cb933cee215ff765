"""Why what is not reached is not: {quantity: the reason, with what shows it}."""

REASONS: dict[str, str] = {}
