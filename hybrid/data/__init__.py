"""Pictures with tags, prepared once and read fast."""
