"""What prints the book: executes its chapters, builds its site, and reports on both."""
