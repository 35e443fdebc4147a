"""One page that says what a study found, with the evidence: pictures and plain words."""
