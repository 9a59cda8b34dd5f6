"""What is optimised: a representation with its renderer, its optimizer and its losses."""
