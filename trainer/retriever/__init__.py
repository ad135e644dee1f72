"""Video-ColBERT, a first stage: queries and videos as sets of vectors, trained on query groups."""
