"""One text file a prompt, its reply's parser beside it; a prompt's version is the hash of its file."""
