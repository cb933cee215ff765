"""One result model and its faces: terminal, JSON, page, small pictures."""
