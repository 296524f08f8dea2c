"""A report as one HTML file that needs nothing else: made from its markdown, with the plots inside."""
