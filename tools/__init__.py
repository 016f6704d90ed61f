"""What the people who run the app use from their own machine; never imported by it."""
