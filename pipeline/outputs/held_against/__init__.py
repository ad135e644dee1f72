"""What an output says of the test sets that it was held against."""
