"""What researchers ask of a cache: what is in it, whether it is sound, and to be rid of what no run reads any more."""
