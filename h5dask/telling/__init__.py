"""What was found, as a person reads it and as JSON. Nothing is computed or printed here."""
