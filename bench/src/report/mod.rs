//! A result as one HTML page that needs nothing else: tables and plots. A function of values.
